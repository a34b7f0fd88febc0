/** /docs in a real browser: it needs nobody else's files, and requests can be tried there. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, Page } from "playwright-core";
import { launchChromium, skipsBrowser } from "../support/browser.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService } from "../support/service.ts";

// The page is a big one, and draws slowly where other tests run beside.
setDefaultTimeout(120_000);

const key = "a-key-of-the-tests-1234";

describe.skipIf(skipsBrowser())("/docs in a real browser", () => {
  let browser: Browser;
  let model: ModelServer;
  let open: Service;
  let guarded: Service;

  beforeAll(async () => {
    model = startModelServer();
    [open, guarded, browser] = await Promise.all([
      startService({ model }),
      startService({ model, env: { PARLEY_API_KEYS: key } }),
      launchChromium(),
    ]);
  });

  afterAll(async () => {
    await browser.close();
    await open[Symbol.asyncDispose]();
    await guarded[Symbol.asyncDispose]();
    await model.close();
  });

  /** Opens the page and records what it asks for, and what its browser complains about. */
  async function visit(service: Service) {
    const page = await browser.newPage();
    page.setDefaultTimeout(100_000);
    const requests: string[] = [];
    const complaints: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    await page.goto(`${service.url}/docs`);
    await page.locator("#operations-Chat-chat").waitFor();
    return { page, requests, complaints };
  }

  /** Sends what the page proposes for POST /v1/chat; resolves to the status and the body that the page shows. */
  async function tryChat(page: Page): Promise<{ status: string; body: string }> {
    const operation = page.locator("#operations-Chat-chat");
    const execute = operation.locator("button.execute");
    if (!(await execute.isVisible())) await operation.locator(".opblock-summary-control").click();
    const [response] = await Promise.all([
      page.waitForResponse((response) => response.url().endsWith("/v1/chat")),
      execute.click(),
    ]);
    const answer = operation.locator(".live-responses-table .response");
    const status = answer.locator(".response-col_status", { hasText: String(response.status()) });
    await status.waitFor();
    return {
      status: (await status.textContent()) ?? "",
      body: (await answer.locator(".highlight-code code").first().textContent()) ?? "",
    };
  }

  test("shows every operation and asks nobody but the service", async () => {
    const { page, requests, complaints } = await visit(open);
    const document = (await (await open.fetch("/openapi.json")).json()) as {
      paths: Record<string, object>;
    };
    const operations = Object.values(document.paths).flatMap((item) => Object.keys(item));
    expect(await page.locator(".opblock").count()).toBe(operations.length);
    expect(await page.locator(".info h1").textContent()).toStartWith("Parley");
    expect(requests.length).toBeGreaterThan(4);
    for (const url of requests) expect(new URL(url).origin).toBe(open.url);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("trying POST /v1/chat shows the reply", async () => {
    const { page, requests, complaints } = await visit(open);
    model.reply(["Mount ", "Everest."]);
    const { status, body } = await tryChat(page);
    expect(status).toStartWith("200");
    expect(JSON.parse(body)).toMatchObject({ response: "Mount Everest.", status: "completed" });
    for (const url of requests) expect(new URL(url).origin).toBe(open.url);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("trying it with a key works after Authorize, and not before", async () => {
    const { page } = await visit(guarded);
    expect((await tryChat(page)).status).toStartWith("401");
    await page.locator(".auth-wrapper > button.authorize").click();
    const dialog = page.locator(".dialog-ux");
    await dialog.locator("input").first().fill(key);
    await dialog.locator("button.authorize").first().click();
    await dialog.locator("button.btn-done").first().click();
    model.reply(["Mount ", "Everest."]);
    const { status, body } = await tryChat(page);
    expect(status).toStartWith("200");
    expect(JSON.parse(body)).toMatchObject({ response: "Mount Everest." });
    await page.close();
  });
});
