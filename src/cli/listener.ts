/**
 * Takes connections for as long as there are file descriptors for them. Without one Bun's listening socket spins: it is
 * told again and again of a connection that it can't accept. So the listener is closed then, which refuses connections
 * at once; those with a request in progress go on, and the silent ones are cut by their time limit.
 */
import type { Server } from "bun";
import type { Log } from "../log.ts";
import { descriptorsRunShort, descriptorsSuffice } from "./descriptors.ts";

const checkMs = 100;
const pauseMs = 1_000;

export class Listener {
  /** The one that listens, and those before it that still have requests to answer. */
  readonly #servers = new Set<Server<unknown>>();
  #listening: Server<unknown> | null = null;
  #pausedMs = 0;
  readonly #checking: Timer;
  readonly port: number;

  /**
   * @param open listens on a port and returns the server
   * @param port 0 takes a free one
   * @param descriptorsMax file descriptors that the process may have
   * @throws what `open` throws
   */
  constructor(
    readonly open: (port: number) => Server<unknown>,
    port: number,
    readonly descriptorsMax: number,
    readonly log: Log,
  ) {
    this.port = this.#listen(port).port ?? port;
    this.#checking = setInterval(() => this.#check(), checkMs);
  }

  /** Requests that are being read, worked on or streamed. */
  get requestsOpen(): number {
    let open = 0;
    for (const { pendingRequests } of this.#servers) open += pendingRequests;
    return open;
  }

  /** Takes no more connections and resolves when all requests are answered, or cuts them. */
  async stop(cut: boolean): Promise<void> {
    clearInterval(this.#checking);
    await Promise.all([...this.#servers].map((server) => server.stop(cut)));
  }

  #listen(port: number): Server<unknown> {
    const server = this.open(port);
    this.#servers.add(server);
    this.#listening = server;
    return server;
  }

  #check(): void {
    if (this.#listening === null) {
      if (performance.now() - this.#pausedMs >= pauseMs && descriptorsSuffice()) this.#resume();
    } else if (descriptorsRunShort(this.descriptorsMax)) {
      // Those that only wait for a next request often suffice.
      this.#listening.closeIdleConnections();
      if (descriptorsRunShort(this.descriptorsMax)) this.#pause(this.#listening);
    }
  }

  #pause(server: Server<unknown>): void {
    this.#listening = null;
    this.#pausedMs = performance.now();
    void server.stop(false).then(() => this.#servers.delete(server));
    this.log.warn(
      {
        event: "connections_refused",
        descriptors_max: this.descriptorsMax,
        requests_open: this.requestsOpen,
      },
      "file descriptors run short: connections are refused for a moment",
    );
  }

  #resume(): void {
    try {
      this.#listen(this.port);
      this.log.info({ event: "connections_taken" }, "connections are taken again");
    } catch (error) {
      this.#pausedMs = performance.now();
      this.log.error({ err: error }, "the port can't be listened on");
    }
  }
}
