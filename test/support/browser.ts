/** A real Chromium, for what only a browser can tell. */
import { type Browser, chromium, type Page } from "playwright-core";
import { programPath, skipsWithout } from "./needs.ts";

/** The path of an installed Chromium, or null. */
const chromiumPath: string | null =
  process.env.CHROMIUM_PATH ?? programPath("chromium", "chromium-browser", "google-chrome");

/** Whether the browser tests are skipped. */
export const skipsBrowser = (): boolean =>
  skipsWithout("Chromium (apt-get install chromium, or CHROMIUM_PATH)", chromiumPath !== null);

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
