/** Documents that nobody waits for: those that wait do so on the disk. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { upload } from "../support/library.ts";
import { memoryOf } from "../support/processes.ts";
import { startService, until } from "../support/service.ts";

setDefaultTimeout(60_000);

const documents = 120;
const text = "Some words about nothing in particular. ".repeat(25_000);

test(`${documents} documents of ${text.length} characters at once are taken at once and cost no memory while they wait`, async () => {
  await using service = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
  const add = async (name: string): Promise<void> =>
    expect((await upload(service, `${name}.txt`, text + name)).status).toBe(202);
  await add("the first one, which starts what reads them");
  const before = memoryOf(service.pid);
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < documents) await add(`document-${next++}`);
  };
  await Promise.all(Array.from({ length: 3 }, client));
  const most = (documents * text.length) / 2;
  // What the uploads themselves took goes in its own time.
  await until("no more than half of them is in memory", () => memoryOf(service.pid) - before < most, 20_000);
  expect(service.logs.filter((line) => line.includes('"level":"warn"'))).toEqual([]);
});
