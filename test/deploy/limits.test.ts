/** The limits of the deployments fit the service's own. */
import { describe, expect, test } from "bun:test";
import { loadConfig } from "../../src/config.ts";
import {
  readCompose,
  readDeployment,
  readKubernetes,
  readManyCompose,
  readManyKubernetes,
  seconds,
  settingIn,
} from "../support/deployments.ts";

const { limits } = loadConfig({});
/** To close connections and the store, and for a starved process. */
const closingSeconds = 5;
/** That `parley health` and `/ready` take at most. */
const probeSeconds = 5;
/** That an instance has to PostgreSQL beside those of PARLEY_DATABASE_CONNECTIONS_MAX, as the README says. */
const connectionsBeside = 5;
const MiB = 2 ** 20;

const unit = await readDeployment("parley.service");
const composes = [
  ["compose.yaml", (await readCompose()).services.parley],
  ["compose.postgres.yaml", (await readManyCompose()).services.parley],
] as const;
const clusters = [
  ["kubernetes.yaml", await readKubernetes()],
  ["kubernetes.postgres.yaml", await readManyKubernetes()],
] as const;
const dockerfile = await Bun.file(new URL("../../Dockerfile", import.meta.url).pathname).text();

describe("running replies may end before the process is killed", () => {
  const enough = limits.shutdownSeconds + closingSeconds;

  test("by systemd", () => {
    expect(seconds(settingIn(unit, "TimeoutStopSec"))).toBeGreaterThanOrEqual(enough);
  });

  test.each(composes)("by Compose: %s", (_, compose) => {
    expect(seconds(compose.stop_grace_period)).toBeGreaterThanOrEqual(enough);
  });

  test.each(clusters)(
    "by Kubernetes, after the time in which proxies learn that it goes: %s",
    (_, cluster) => {
      const { pod, container } = cluster;
      const [sleep, pause] = container.lifecycle!.preStop!.exec!.command!;
      expect(sleep).toBe("sleep");
      expect(seconds(pause!)).toBeGreaterThan(0);
      expect(pod.terminationGracePeriodSeconds! - seconds(pause!)).toBeGreaterThanOrEqual(enough);
    },
  );
});

describe("open files suffice for the turns and requests that are taken", () => {
  const enough = 2 * Math.max(limits.turnsRunningMax, limits.requestsOpenMax);

  test("under systemd", () => {
    expect(Number(settingIn(unit, "LimitNOFILE"))).toBeGreaterThanOrEqual(enough);
  });

  test.each(composes)("under Compose: %s", (_, compose) => {
    expect(compose.ulimits.nofile).toBeGreaterThanOrEqual(enough);
  });
});

describe("probes wait longer than their answer may take", () => {
  test("Docker's", () => {
    const [, timeout] = /^HEALTHCHECK .*--timeout=(\d+)s/m.exec(dockerfile)!;
    expect(Number(timeout)).toBeGreaterThan(probeSeconds);
  });

  test.each(clusters)("Kubernetes': %s", (_, { container }) => {
    expect(container.readinessProbe!.timeoutSeconds!).toBeGreaterThan(probeSeconds);
  });
});

test.each(clusters)(
  "%s gives the documents that are read at once their memory, and the service some",
  (_, cluster) => {
    const { container } = cluster;
    const [, gibibytes] = /^(\d+)Gi$/.exec(String(container.resources!.limits!.memory))!;
    expect(Number(gibibytes) * 1024).toBeGreaterThanOrEqual(2 * limits.documentMemoryMibMax + 512);
  },
);

describe.each([
  ["nginx.conf", await readDeployment("nginx.conf")],
  ["nginx.instances.conf", await readDeployment("nginx.instances.conf")],
])("%s", (_, nginx) => {
  test("waits longer than a turn may take, in which POST /v1/chat is silent", () => {
    expect(seconds(settingIn(nginx, "proxy_read_timeout"))).toBeGreaterThan(limits.turnSecondsMax);
  });

  test("takes the longest message in an address, and the largest document", () => {
    const [, kibibytes] = /^\d+ (\d+)k$/.exec(settingIn(nginx, "large_client_header_buffers"))!;
    expect(Number(kibibytes) * 1024).toBeGreaterThan(9 * limits.messageCharsMax + 16 * 1024);
    const [, mebibytes] = /^(\d+)m$/.exec(settingIn(nginx, "client_max_body_size"))!;
    expect(Number(mebibytes) * MiB).toBeGreaterThan(limits.documentBytesMax);
  });
});

test("PostgreSQL under Compose takes the connections of all instances, and of one more that takes a place", async () => {
  const { services } = await readManyCompose();
  const [, max] = /^-c max_connections=(\d+)$/.exec(String(services.postgres.command))!;
  const each = limits.databaseConnectionsMax + connectionsBeside;
  expect(Number(max)).toBeGreaterThanOrEqual((services.parley.scale + 1) * each);
});
