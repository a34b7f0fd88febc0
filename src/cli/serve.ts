/** parley serve: the service, from its first log line to its last. */
import http from "node:http";
import type { Server } from "bun";
import { createApp } from "../app.ts";
import { type Config, loadConfig } from "../config.ts";
import { createLog, type Log } from "../log.ts";
import { loadTokenizer } from "../models/tokens.ts";
import { createServices, type Services } from "../services.ts";
import { StorageUnusableError } from "../storage/unusable.ts";
import { version } from "../version.ts";
import { CommandError, takesNoArguments } from "./command.ts";
import { descriptorsMax, withinDescriptors } from "./descriptors.ts";
import { Listener } from "./listener.ts";

/** Time for a load balancer to notice that this instance isn't ready any more, and for streams to be flushed. */
const drainMs = 500;

export const help = `parley serve

Starts the service. Everything is configured by environment variables: see parley config.
`;

/** Serves until SIGTERM or SIGINT. @throws CommandError where the data directory or the port is taken */
export async function run(args: string[]): Promise<void> {
  takesNoArguments(args);
  const config = withinItsDescriptors(loadConfig());
  const log = createLog(config.logLevel);
  // From now on, so that a signal in the middle of the start ends it in order too.
  const signalled = nextSignal();
  const services = await open(config, log);
  const listener = listen(config, services);
  const address = `http://${config.host.includes(":") ? `[${config.host}]` : config.host}:${listener.port}`;
  log.info(
    {
      event: "listening",
      url: address,
      model: config.models[0]?.model ?? "embedded",
      version,
      pid: process.pid,
      turns_running_max: config.limits.turnsRunningMax,
      requests_open_max: config.limits.requestsOpenMax,
    },
    `listening on ${address}`,
  );

  // The first turn would wait for the tokenizer; the first answer to a probe shouldn't.
  setTimeout(loadTokenizer, 1_000).unref();

  const signal = await signalled;
  log.info({ event: "stopping", signal, turns: services.turns.count }, "stopping");
  services.readiness.stopServing();
  await services.stop();
  // Streams are flushed while the listener stays open: closing it would cut them.
  await Bun.sleep(drainMs);
  await Promise.race([listener.stop(false), Bun.sleep(drainMs)]);
  await listener.stop(true);
  await services.close();
  log.info({ event: "stopped" }, "stopped");
  process.exit(0);
}

const withinItsDescriptors = (config: Config): Config => ({
  ...config,
  limits: withinDescriptors(config.limits, descriptorsMax()),
});

async function open(config: Config, log: Log): Promise<Services> {
  try {
    return await createServices(config, log);
  } catch (error) {
    if (error instanceof StorageUnusableError) throw new CommandError(error.message);
    if (error instanceof Error && "syscall" in error) {
      throw new CommandError(`the data directory ${config.dataDir} can't be used: ${error.message}`);
    }
    throw error;
  }
}

/** @throws CommandError where the port is taken */
function listen(config: Config, services: Services): Listener {
  const { host, limits } = config;
  // Bun's 16 KiB, and the longest message of a GET /chat/stream, percent-encoded; `Bun.serve` reads it here.
  Object.assign(http, { maxHeaderSize: 16 * 1024 + 9 * limits.messageCharsMax });
  let listener: Listener | null = null;
  const app = createApp(services, () => listener?.requestsOpen ?? 0);
  const open = (port: number): Server<unknown> => {
    const { server } = app.listen({
      hostname: host,
      port,
      idleTimeout: limits.connectionIdleSeconds,
      // Elysia's default would let a second service take half of the first one's connections.
      reusePort: false,
      // Bun's error page would show source code to whoever meets a fault of ours.
      development: false,
      // Bodies have their own limit, which answers with a problem.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    });
    // Elysia adds one each time; this process ends otherwise.
    process.removeAllListeners("beforeExit");
    if (server === null) throw new CommandError("the server didn't start");
    return server;
  };
  try {
    const opened = new Listener(open, config.port, descriptorsMax(), services.log);
    services.metrics.watch(
      "parley_http_requests_open",
      "Requests that are being read, worked on or streamed.",
      () => opened.requestsOpen,
    );
    listener = opened;
    return opened;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") {
      throw new CommandError(`port ${config.port} of ${config.host} is taken: set PORT to another one`);
    }
    throw error;
  }
}

const nextSignal = (): Promise<string> =>
  new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
  });
