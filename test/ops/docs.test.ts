/** The documentation page's files: open to all, safe to show, served out of the program. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const key = "a-key-of-the-tests-1234";
let service: Service;

beforeAll(async () => {
  service = await startService({ env: { PARLEY_API_KEYS: key } });
});

afterAll(() => service[Symbol.asyncDispose]());

const pages = ["/docs", "/docs/"];
const files = [
  "/docs/swagger-ui.css",
  "/docs/swagger-ui-bundle.js",
  "/docs/initializer.js",
  "/docs/favicon.png",
];

test("the page, its files and the document need no key, while the API does", async () => {
  for (const path of [...pages, ...files, "/openapi.json"]) {
    const response = await service.fetch(path);
    expect(response.status, path).toBe(200);
    expect((await response.bytes()).length, path).toBeGreaterThan(100);
    expect((await service.fetch(path, { method: "HEAD" })).status, path).toBe(200);
  }
  expect((await service.fetch("/v1/conversations")).status).toBe(401);
});

test("what they send may do nothing but show the page", async () => {
  for (const path of [...pages, ...files, "/openapi.json"]) {
    const { headers } = await service.fetch(path);
    const policy = headers.get("content-security-policy")?.split("; ") ?? [];
    expect(policy, path).toContain("default-src 'none'");
    expect(policy, path).toContain("script-src 'self'");
    expect(policy.join(), path).not.toMatch(/unsafe|https?:|\*/);
    expect(headers.get("x-content-type-options"), path).toBe("nosniff");
    expect(headers.get("referrer-policy"), path).toBe("no-referrer");
    expect(headers.get("x-request-id"), path).toStartWith("req_");
  }
});

test("the page holds no script, and addresses of its own folder alone", async () => {
  for (const path of pages) {
    const html = await (await service.fetch(path)).text();
    expect(html).not.toMatch(/<script(?![^>]* src=)|<style|\son\w+=|https?:/);
    const links = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, link]) => link!);
    expect(links).toHaveLength(4);
    for (const link of links) {
      const { pathname } = new URL(link, service.url + path);
      expect(files, `${link} of ${path}`).toContain(pathname);
    }
  }
});

test("files whose address holds their version are kept, and nothing else is for long", async () => {
  const cacheOf = async (path: string) => (await service.fetch(path)).headers.get("cache-control");
  expect(await cacheOf("/docs/swagger-ui.css?v=1")).toBe("public, max-age=31536000, immutable");
  expect(await cacheOf("/docs/swagger-ui-bundle.js?v=1")).toBe("public, max-age=31536000, immutable");
  for (const path of ["/docs", "/docs/initializer.js", "/openapi.json"]) {
    expect(await cacheOf(path), path).toBe("no-cache");
  }
});

test("without keys they answer this machine's own programs and pages only", async () => {
  await using open = await startService();
  for (const path of [...pages, ...files, "/openapi.json"]) {
    expect((await open.fetch(path)).status, path).toBe(200);
    const rebound = await open.fetch(path, { headers: { Host: "example.com" } });
    expect(rebound.status, path).toBe(403);
    const foreign = await open.fetch(path, { headers: { "Sec-Fetch-Site": "cross-site" } });
    expect(foreign.status, path).toBe(403);
  }
});

test("what isn't one of its files is not found", async () => {
  for (const path of ["/docs/index.html", "/docs/..%2fpackage.json", "/docs/swagger-ui.js", "/v1/docs"]) {
    expect((await service.fetch(path)).status, path).toBe(404);
  }
});
