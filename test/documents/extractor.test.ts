/** Documents are read by processes of their own, which are bounded, watched, and gone when they should be. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, readlinkSync } from "node:fs";
import { extract } from "../../src/documents/extract.ts";
import { Extractor } from "../../src/documents/extractor.ts";
import { passageTokensMax, toPassages } from "../../src/documents/passages.ts";
import { endlessDocument, refusalOf, source } from "../support/documents.ts";
import { docxOf, heading, paragraph } from "../support/docx.ts";
import { pdfBomb, pdfWith } from "../support/pdf.ts";
import { childrenOf, isAlive, skipsWithoutProc } from "../support/processes.ts";
import { testMsMax, until as untilWithin } from "../support/service.ts";

/** Readers have a low priority: where the machine is busy, they take many times as long. */
const msMax = testMsMax * 4;
setDefaultTimeout(msMax);
const until = (what: string, condition: () => boolean): Promise<void> => untilWithin(what, condition, msMax);

const limits = { documentSecondsMax: 120, documentMemoryMibMax: 512, documentCharsMax: 50_000_000 };
const open: Extractor[] = [];
const newExtractor = (changed: Partial<typeof limits> = {}): Extractor => {
  const extractor = new Extractor({ ...limits, ...changed });
  open.push(extractor);
  return extractor;
};

afterEach(async () => {
  await Promise.all(open.splice(0).map((extractor) => extractor.close()));
});

const hello = source("hello.md", "# Hello\n\nWorld.\n");
const readers = (): number[] => childrenOf(process.pid);
const withProc = test.skipIf(skipsWithoutProc());

describe("an extractor", () => {
  const sources = [
    hello,
    source("a.txt", "Some text.\n\nMore 😀 of it."),
    source("a.html", "<h1>Title</h1><p>Text</p>"),
    source("a.pdf", pdfWith([[{ text: "First page", y: 700 }], [{ text: "Second page", y: 700 }]])),
    source("a.docx", docxOf(heading(1, "Title") + paragraph("Text"))),
    source("a.csv", "name,age\nAda,36\n"),
    source("a.json", '[{"name": "Ada"}]'),
  ];

  test("gives the text and the passages of a document of each kind, as reading it here would", async () => {
    const extractor = newExtractor();
    for (const document of sources) {
      const extracted = await extract(document, limits.documentCharsMax);
      expect(await extractor.extract(document)).toEqual({
        media_type: extracted.media_type,
        text: extracted.text,
        passages: toPassages(extracted, { tokensMax: passageTokensMax }),
      });
    }
  });

  test("gives a long text whole, with characters that fall between its pieces", async () => {
    const text = `${"😀".repeat(70_001)}\n\n${"x".repeat(64 * 1024 - 1)}😀`;
    for (const shifted of [text, `y${text}`]) {
      expect((await newExtractor().extract(source("a.txt", shifted))).text === shifted).toBe(true);
    }
  });

  test("tells of a refusal what reading the document here would", async () => {
    const extractor = newExtractor({ documentCharsMax: 10 });
    const taken = "Taken are text, Markdown, HTML, PDF, DOCX, CSV and JSON.";
    expect(await refusalOf(extractor.extract(source("a.pdf", "<html>")))).toEqual({
      code: "document_unreadable",
      detail: "It looks like HTML, not PDF.",
    });
    expect(await refusalOf(extractor.extract(source("a.txt", "x".repeat(11))))).toEqual({
      code: "payload_too_large",
      detail: "The document has more than 10 characters of text.",
    });
    expect(await refusalOf(extractor.extract(source("a.bin", "\0")))).toEqual({
      code: "unsupported_media_type",
      detail: `Files of this kind are not taken. ${taken}`,
    });
  });

  withProc(
    "keeps its process for the next document, after a refusal too, and ends it when closed",
    async () => {
      const extractor = newExtractor();
      await extractor.extract(hello);
      const first = readers();
      expect(first).toHaveLength(1);
      await refusalOf(extractor.extract(source("a.pdf", "x")));
      await extractor.extract(hello);
      expect(readers()).toEqual(first);
      await extractor.close();
      expect(readers()).toEqual([]);
      expect(await refusalOf(extractor.extract(hello))).toMatchObject({ code: "shutting_down" });
    },
  );

  withProc("ends its process after a while without documents, and starts another for the next", async () => {
    const extractor = new Extractor(limits, 1);
    open.push(extractor);
    await extractor.extract(hello);
    await until("it has ended", () => readers().length === 0);
    expect((await extractor.extract(hello)).passages).toHaveLength(1);
  });

  withProc("reads two documents at a time", async () => {
    const extractor = newExtractor();
    await Promise.all(Array.from({ length: 6 }, () => extractor.extract(hello)));
    expect(readers()).toHaveLength(2);
  });

  withProc("gives its process no variable of its own, and no directory to find some in", async () => {
    process.env.OPENAI_API_KEY = "sk-secret";
    try {
      await newExtractor().extract(hello);
    } finally {
      delete process.env.OPENAI_API_KEY;
    }
    const [pid] = readers();
    const environ = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    expect(environ.filter((variable) => variable !== "").map((variable) => variable.split("=")[0])).toEqual([
      "BUN_JSC_forceRAMSize",
    ]);
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
  });
});

describe("a document that takes too much", () => {
  withProc("time is refused, its process is gone, and the next one is read", async () => {
    const changing = { ...limits, documentSecondsMax: 1 };
    const extractor = new Extractor(changing);
    open.push(extractor);
    expect(await refusalOf(extractor.extract(endlessDocument()))).toEqual({
      code: "document_unreadable",
      detail: "The document takes more than 1 s to read.",
    });
    expect(readers()).toEqual([]);
    changing.documentSecondsMax = limits.documentSecondsMax;
    expect((await extractor.extract(hello)).passages).toHaveLength(1);
  });

  withProc("memory is refused, its process is gone, and the next one is read", async () => {
    const extractor = newExtractor();
    expect(await refusalOf(extractor.extract(source("a.pdf", pdfBomb())))).toEqual({
      code: "document_unreadable",
      detail: "The document takes more than 512 MiB of memory to read.",
    });
    expect(readers()).toEqual([]);
    expect((await extractor.extract(hello)).passages).toHaveLength(1);
  });

  withProc("is ended from here where its process can't do it itself", async () => {
    const extractor = newExtractor({ documentSecondsMax: 1 });
    const refusal = refusalOf(extractor.extract(endlessDocument()));
    await until("a process reads it", () => readers().length === 1);
    process.kill(readers()[0]!, "SIGSTOP");
    expect(await refusal).toEqual({ code: "document_unreadable", detail: "The document can't be read." });
    expect(readers()).toEqual([]);
  });
});

describe("a process that is gone", () => {
  withProc("while it reads costs that document alone", async () => {
    const extractor = newExtractor();
    const refusal = refusalOf(extractor.extract(endlessDocument()));
    await until("a process reads it", () => readers().length === 1);
    process.kill(readers()[0]!, "SIGKILL");
    expect(await refusal).toEqual({ code: "document_unreadable", detail: "The document can't be read." });
    expect((await extractor.extract(hello)).passages).toHaveLength(1);
  });

  withProc("while it waits costs nothing", async () => {
    const extractor = newExtractor();
    await extractor.extract(hello);
    const [pid] = readers();
    process.kill(pid!, "SIGKILL");
    await until("it is gone", () => !isAlive(pid!));
    expect((await extractor.extract(hello)).passages).toHaveLength(1);
  });

  withProc("takes its readers along, even killed, even while they are busy", async () => {
    const service = Bun.spawn(
      [process.execPath, new URL("../support/extracting.ts", import.meta.url).pathname],
      {
        stdout: "pipe",
      },
    );
    try {
      await service.stdout.getReader().read();
      await until("a process reads", () => childrenOf(service.pid).length === 1);
      const [pid] = childrenOf(service.pid);
      const busyTicks = (): number => Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[13]);
      await until("it is busy", () => busyTicks() > 50);
      service.kill("SIGKILL");
      await until("it is gone", () => !isAlive(pid!));
    } finally {
      service.kill("SIGKILL");
      await service.exited;
    }
  });
});

describe("whoever asks", () => {
  withProc("may go away while a document is read, by a new process or one that has read before", async () => {
    const extractor = newExtractor();
    for (const before of [[], [hello]]) {
      for (const document of before) await extractor.extract(document);
      const leaving = new AbortController();
      const reading = extractor.extract(endlessDocument(), leaving.signal);
      await until("a process reads it", () => readers().length === 1);
      leaving.abort(new Error("gone"));
      await expect(reading).rejects.toThrow("gone");
      expect(readers()).toEqual([]);
      await expect(extractor.extract(hello, leaving.signal)).rejects.toThrow("gone");
    }
  });

  withProc("may go away while a document waits, and is told when too many wait", async () => {
    const extractor = newExtractor();
    const leaving = new AbortController();
    const running = Promise.allSettled(
      [1, 2].map(() => extractor.extract(endlessDocument(), leaving.signal)),
    );
    const waits = new AbortController();
    const waiting = extractor.extract(hello, waits.signal);
    const waitingToo = Array.from({ length: 31 }, () => extractor.extract(hello));
    expect(await refusalOf(extractor.extract(hello))).toEqual({
      code: "overloaded",
      detail: "The service is overloaded.",
    });
    waits.abort(new Error("gone"));
    await expect(waiting).rejects.toThrow("gone");
    // There is a place again, but not for much.
    const large = { ...hello, bytes: new Uint8Array(128 * 1024 * 1024) };
    expect(await refusalOf(extractor.extract(large))).toMatchObject({ code: "overloaded" });
    leaving.abort(new Error("gone"));
    expect(await running).toMatchObject(
      [1, 2].map(() => ({ status: "rejected", reason: new Error("gone") })),
    );
    for (const { text } of await Promise.all(waitingToo)) expect(text).toBe("# Hello\n\nWorld.\n");
    // Who went away took no place along.
    expect(readers()).toHaveLength(2);
  });

  withProc("is told when the service shuts down", async () => {
    const extractor = newExtractor();
    const all = [1, 2, 3].map((index) => refusalOf(extractor.extract(index < 3 ? endlessDocument() : hello)));
    await until("processes read", () => readers().length === 2);
    await extractor.close();
    expect(await Promise.all(all)).toMatchObject(
      Array.from({ length: 3 }, () => ({ code: "shutting_down" })),
    );
    expect(readers()).toEqual([]);
  });
});
