/** deploy/nginx.instances.conf before three instances, found by name: any of them answers, and one may go. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readDeployment } from "../support/deployments.ts";
import { Exposition } from "../support/exposition.ts";
import { startNameServer } from "../support/name-server.ts";
import { skipsNginx, startNginx } from "../support/nginx.ts";
import { databasesOfFile, freePort } from "../support/postgres.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();
const key = "a-key-of-this-test";
const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };

/** Requests that an instance has answered on the route of this test. */
async function answeredBy({ url }: Service): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`, { headers })).text();
  return new Exposition(metrics).sum("parley_http_requests_total", { route: "/v1/conversations" });
}

// Other systems have one loopback address.
describe.skipIf(process.platform !== "linux" || skipsNginx())("nginx before three instances", () => {
  test("gives each of them some requests, streams from any, and passes over one that was killed", async () => {
    const addresses = ["127.0.1.1", "127.0.1.2", "127.0.1.3"];
    const port = await freePort();
    const env = { DATABASE_URL: await newDatabase(), PARLEY_API_KEYS: key, PORT: String(port) };
    const instances = await Promise.all(
      addresses.map((address) => startService({ env: { ...env, PARLEY_HOST: address } })),
    );
    const names = await startNameServer(addresses);
    const file = await readDeployment("nginx.instances.conf");
    const nginx = await startNginx({
      site: (listen) =>
        file
          .replace("listen 80;", `listen ${listen};`)
          .replace("resolver 127.0.0.11 valid=5s;", `resolver 127.0.0.1:${names.port} valid=1s;`)
          .replace("parley:8000", `parley:${port}`),
    });
    try {
      const { site } = nginx.urls;
      const list = async (): Promise<number> =>
        (await fetch(`${site}/v1/conversations`, { headers, keepalive: false })).status;
      const lists = (): Promise<number[]> => Promise.all(Array.from({ length: 60 }, list));
      // Who waits for the same look-up of the name gets the same instance.
      expect(await list()).toBe(200);
      expect(new Set(await lists())).toEqual(new Set([200]));
      for (const instance of instances) expect(await answeredBy(instance)).toBeGreaterThan(0);

      const chat = async (path: string, message: string): Promise<Response> =>
        await fetch(site + path, {
          method: "POST",
          headers,
          body: JSON.stringify({ user_id: "ada", message }),
        });
      for (let n = 0; n < 6; n++) {
        const transcript = await readTranscript(await chat("/v1/chat/stream", "Hello"));
        expect(transcript.done).toMatchObject({ status: "completed" });
      }

      await instances[1]!.kill();
      expect(new Set(await lists())).toEqual(new Set([200]));
      for (let n = 0; n < 6; n++) expect((await chat("/v1/chat", "Hello again")).status).toBe(200);
    } finally {
      await nginx[Symbol.asyncDispose]();
      names.close();
      await Promise.all(instances.map((instance) => instance[Symbol.asyncDispose]()));
    }
  });
});
