/** A real Chromium, for what only a browser can tell. */
import { type Browser, chromium, type Page } from "playwright-core";

const names = ["chromium", "chromium-browser", "google-chrome"];

/** The path of an installed Chromium, or null. */
export const chromiumPath: string | null =
  process.env.CHROMIUM_PATH ?? names.map((name) => Bun.which(name)).find((path) => path !== null) ?? null;

const required = process.env.CI === "true" || process.env.PARLEY_TEST_REQUIRE_CHROMIUM === "1";

/**
 * Whether the browser tests are skipped, which is said on the terminal.
 * @throws where a Chromium is required (CI=true or PARLEY_TEST_REQUIRE_CHROMIUM=1) and there is none
 */
export function skipsBrowser(): boolean {
  if (chromiumPath !== null) return false;
  const notice = `no Chromium found (${names.join(", ")} or CHROMIUM_PATH)`;
  if (required) throw new Error(notice);
  console.warn(`browser tests skipped: ${notice}`);
  return true;
}

export async function launchChromium(): Promise<Browser> {
  if (chromiumPath === null) throw new Error("no Chromium");
  // Its sandbox needs rights that containers don't give; the pages are our own.
  return await chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox"] });
}

/** A page of the service's own origin, where scripts of a test can run. */
export async function openPage(browser: Browser, url: string): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(`${url}/health`);
  return page;
}
