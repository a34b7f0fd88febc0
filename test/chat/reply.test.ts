/** The text that only grows: its offsets, its limit. */
import { describe, expect, test } from "bun:test";
import { Reply, Wake } from "../../src/chat/reply.ts";
import { toNormalForm } from "../../src/normal-form.ts";
import { endedTurn, seededRandom } from "../support/turns.ts";

const unlimited = Number.MAX_SAFE_INTEGER;

const replyOf = (pieces: string[], lengthMax = unlimited): Reply => {
  const reply = new Reply();
  for (const piece of pieces) reply.append(piece, lengthMax);
  reply.finish(lengthMax);
  return reply;
};

describe("appending", () => {
  test("a pair split over two pieces stays whole, and its first half waits", () => {
    const reply = new Reply();
    reply.append("a\ud83d", unlimited);
    expect([reply.text, reply.length]).toEqual(["a", 1]);
    reply.append("\ude00b", unlimited);
    expect([reply.text, reply.length]).toEqual(["a😀b", 4]);
  });

  test("a first half that stays alone becomes U+FFFD, at once with other text or at the end", () => {
    expect(replyOf(["\ud83d", "x"]).text).toBe("\ufffdx");
    expect(replyOf(["x\ud83d"]).text).toBe("x\ufffd");
    expect(replyOf(["\ud83d", "\ud83d", "\ude00"]).text).toBe("\ufffd😀");
    expect(replyOf(["\ud83d", "", "\ude00"]).text).toBe("😀");
  });

  test("in whatever pieces text comes, the reply is the same", () => {
    const random = seededRandom();
    const alphabet = ["a", "\n", "\0", "é", "中", "😀", "\ud83d", "\ude00", "👩‍👧", "\ufffd"];
    for (let round = 0; round < 500; round++) {
      const raw = Array.from(
        { length: 1 + random() * 40 },
        () => alphabet[Math.floor(random() * alphabet.length)],
      ).join("");
      const pieces: string[] = [];
      for (let at = 0; at < raw.length; ) {
        const size = Math.floor(random() * 4);
        pieces.push(raw.slice(at, at + size));
        at += size;
      }
      const reply = replyOf(pieces);
      expect(reply.text).toBe(toNormalForm(raw));
      expect(reply.text.isWellFormed()).toBe(true);
    }
  });

  test("offsets never fall into a pair that is still to come", () => {
    const reply = new Reply();
    for (const unit of "😀😀") {
      for (const half of [unit.slice(0, 1), unit.slice(1)]) {
        reply.append(half, unlimited);
        expect(reply.text.isWellFormed()).toBe(true);
        expect(reply.length % 2).toBe(0);
      }
    }
  });
});

describe("since", () => {
  test("gives the rest from every offset, in whatever pieces it came", () => {
    const pieces = ["Hel", "lo ", "😀", "", "w", "orld\n"];
    const text = pieces.join("");
    const growing = new Reply();
    let length = 0;
    for (const piece of pieces) {
      growing.append(piece, unlimited);
      length += piece.length;
      for (let offset = 0; offset <= length; offset++)
        expect(growing.since(offset)).toBe(text.slice(offset, length));
    }
    // Reading `text` joins the pieces, which changes no offset.
    expect(growing.text).toBe(text);
    growing.append("more", unlimited);
    for (let offset = 0; offset <= length; offset++)
      expect(growing.since(offset)).toBe(`${text.slice(offset)}more`);
  });

  test("gives nothing beyond the end, and nothing of an empty reply", () => {
    const reply = replyOf(["abc"]);
    expect([reply.since(3), reply.since(4), reply.since(1e15)]).toEqual(["", "", ""]);
    expect(new Reply().since(0)).toBe("");
  });

  test("of a reply that has ended gives its stored text", () => {
    const reply = Reply.of(endedTurn("stored 😀"));
    expect([reply.length, reply.text, reply.since(7)]).toEqual([9, "stored 😀", "😀"]);
    expect(reply.ended?.id).toBe("turn_1");
  });
});

describe("the limit", () => {
  test.each([
    [["abcdef"], 3, "abc"],
    [["ab", "cd", "ef"], 3, "abc"],
    [["ab"], 2, "ab"],
    [["a😀"], 2, "a"],
    [["a😀"], 3, "a😀"],
    [["😀"], 1, ""],
    [["a", "\ud83d", "\ude00"], 2, "a"],
    [["ab", "\ud83d"], 2, "ab"],
    [["abc"], 0, ""],
  ])("%j, at most %d: %j", (pieces, lengthMax, text) => {
    expect(replyOf(pieces, lengthMax).text).toBe(text);
  });

  test("append tells whether all of it found room", () => {
    const reply = new Reply();
    expect(reply.append("abc", 5)).toBe(true);
    expect(reply.append("de", 5)).toBe(true);
    expect(reply.append("f", 5)).toBe(false);
    expect(reply.text).toBe("abcde");
  });
});

describe("withholding", () => {
  const withheld = (): Reply => {
    const reply = new Reply();
    reply.append("shown ", unlimited);
    reply.withhold();
    reply.append("not yet, 😀", unlimited);
    return reply;
  };

  test("what was withheld is written, and shown when it may be", () => {
    const reply = withheld();
    expect([reply.text, reply.length, reply.since(0)]).toEqual(["shown ", 6, "shown "]);
    expect(reply.written).toBe("shown not yet, 😀");
    reply.show();
    reply.append(" more", unlimited);
    expect([reply.text, reply.length]).toEqual(["shown not yet, 😀 more", 22]);
    expect(reply.since(6)).toBe("not yet, 😀 more");
  });

  test("the end shows what was stored, with what was withheld or without it", () => {
    for (const stored of ["shown ", "shown not yet, 😀", "sh"]) {
      const reply = withheld();
      reply.finish(unlimited);
      expect(reply.length).toBe(6);
      reply.end(endedTurn(stored));
      expect([reply.text, reply.length]).toEqual([stored, stored.length]);
    }
  });

  test("the limit counts it", () => {
    const reply = new Reply();
    reply.withhold();
    expect([reply.append("four", 6), reply.append("four", 6)]).toEqual([true, false]);
    expect(reply.written).toBe("fourfo");
  });
});

describe("watching", () => {
  test("a wake while nobody waits is kept, as one", async () => {
    const wake = new Wake();
    wake.wake();
    wake.wake();
    await wake.wait();
    let woken = false;
    const second = wake.wait().then(() => {
      woken = true;
    });
    await Promise.resolve();
    expect(woken).toBe(false);
    wake.wake();
    await second;
  });

  test("growth and the end wake, until one stops watching", async () => {
    const reply = new Reply();
    const wake = new Wake();
    reply.watch(wake);
    reply.append("x", unlimited);
    await wake.wait();
    reply.end(endedTurn("x"));
    await wake.wait();
    reply.unwatch(wake);
    let woken = false;
    void wake.wait().then(() => {
      woken = true;
    });
    reply.append("y", unlimited);
    await Promise.resolve();
    expect(woken).toBe(false);
  });

  test("the first end counts", async () => {
    const reply = new Reply();
    const whenEnded = reply.whenEnded();
    reply.end(endedTurn("first"));
    reply.end(endedTurn("second"));
    expect((await whenEnded).response).toBe("first");
    expect((await reply.whenEnded()).response).toBe("first");
  });
});
