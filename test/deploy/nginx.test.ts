/** deploy/nginx.conf beside what test/http/proxies.test.ts shows of it: its lines for TLS, and uploads. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { run } from "../support/debian.ts";
import { readDeployment } from "../support/deployments.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { programPath, skipsWithout } from "../support/needs.ts";
import { type Nginx, skipsNginx, startNginx } from "../support/nginx.ts";
import { type Service, startService, temporaryDirectory, testMsMax } from "../support/service.ts";
import { sseEvents } from "../support/sse.ts";

setDefaultTimeout(testMsMax);

const programs = ["curl", "openssl"];
const skipped =
  skipsNginx() ||
  skipsWithout(
    programs.join(", "),
    programs.every((program) => programPath(program) !== null),
  );

describe.skipIf(skipped)("the site for nginx", () => {
  let directory: string;
  let model: ModelServer;
  let service: Service;
  let nginx: Nginx<"site" | "secure">;

  beforeAll(async () => {
    directory = temporaryDirectory();
    const [key, certificate] = [join(directory, "key.pem"), join(directory, "certificate.pem")];
    const name = ["-subj", "/CN=chat.example.com", "-addext", "subjectAltName=DNS:chat.example.com"];
    await run([
      ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-days", "1", ...name, "-keyout", key, "-out", certificate],
    ]);
    model = startModelServer();
    service = await startService({ model, env: { PARLEY_API_KEYS: "a-key-of-this-test" } });
    const file = (await readDeployment("nginx.conf")).replace(":8000;", `:${service.port};`);
    nginx = await startNginx({
      site: (listen) => file.replace("listen 80;", `listen ${listen};`),
      secure: (listen) =>
        file
          .replace(/^ *listen 80;\n/m, "")
          .replace(/^( *)# (listen 443|ssl_certificate)/gm, "$1$2")
          .replace(/^ *listen 443/m, `listen ${listen}`)
          .replace(/\/etc\/letsencrypt\S*fullchain.pem/, certificate)
          .replace(/\/etc\/letsencrypt\S*privkey.pem/, key),
    });
  });
  afterAll(async () => {
    await nginx[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
    await model.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test("streams over TLS and HTTP/2, each token when it was said", async () => {
    const held = model.hold();
    const port = new URL(nginx.urls.secure).port;
    const curl = Bun.spawn(
      [
        ...["curl", "-sSN", "--http2", "--cacert", join(directory, "certificate.pem"), "--max-time", "20"],
        ...["--resolve", `chat.example.com:${port}:${new URL(nginx.urls.secure).hostname}`],
        ...["-H", "authorization: Bearer a-key-of-this-test", "-H", "content-type: application/json"],
        ...[
          "-d",
          '{"user_id":"ada","message":"Hello"}',
          "-w",
          "\n\nevent: protocol\ndata: %{http_version}\n\n",
        ],
        `https://chat.example.com:${port}/v1/chat/stream`,
      ],
      { stdout: "pipe", stderr: "inherit" },
    );
    const events = sseEvents(new Response(curl.stdout));
    const next = async () => (await events.next()).value?.data ?? "";
    expect(await next()).toContain('"turn_id"');
    for (const token of ["a", "few ", "😀"]) {
      held.send(token);
      expect(JSON.parse(await next())).toEqual({ token });
    }
    held.finish();
    expect(JSON.parse(await next())).toMatchObject({ done: true, status: "completed" });
    expect(await next()).toBe("2");
    expect(await curl.exited).toBe(0);
  });

  test("takes documents that are larger than nginx does by itself", async () => {
    const form = new FormData();
    form.set("file", new File(["All of it is one line.\n".repeat(60_000)], "lines.txt"));
    const added = await fetch(`${nginx.urls.site}/v1/documents`, {
      method: "POST",
      headers: { authorization: "Bearer a-key-of-this-test" },
      body: form,
    });
    expect([200, 201, 202]).toContain(added.status);
  });

  test("leaves it to Parley to say what is too large", async () => {
    const added = await fetch(`${nginx.urls.site}/v1/documents`, {
      method: "POST",
      headers: {
        authorization: "Bearer a-key-of-this-test",
        "content-type": "multipart/form-data; boundary=x",
      },
      body: new Uint8Array(32 * 2 ** 20 + 1),
    });
    expect(added.status).toBe(413);
    expect(await added.json()).toMatchObject({ code: "payload_too_large" });
  });
});
