import { describe, expect, test } from "bun:test";
import { embedded } from "../../src/models/embedded.ts";
import type { PromptMessage } from "../../src/models/model.ts";
import { countTokens } from "../../src/models/tokens.ts";
import { read, request } from "../support/models.ts";

const asked = (...messages: [role: PromptMessage["role"], content: string][]) =>
  request({ messages: messages.map(([role, content]) => ({ role, content })) });

describe("the embedded model", () => {
  test("names itself", () => {
    expect(embedded().name).toBe("embedded");
  });

  test("says that no language model is configured, how to configure one, and that it found nothing", async () => {
    const { text, finish_reason, usage, failure } = await read(
      embedded(),
      asked(["user", "What is Parley?"]),
    );
    expect(text).toContain("No language model is configured");
    expect(text).toContain("OPENAI_API_KEY");
    expect(text).toContain("OPENAI_BASE_URL");
    expect(text).toContain("found nothing");
    expect({ finish_reason, usage, failure }).toEqual({
      finish_reason: "stop",
      usage: undefined,
      failure: undefined,
    });
  });

  test("streams word by word, with time in between", async () => {
    let turns = 0;
    const counting = setInterval(() => turns++, 1);
    const { pieces } = await read(embedded(), asked(["user", "Hi"]));
    clearInterval(counting);
    const words = pieces.filter(({ text }) => text !== undefined);
    expect(words.length).toBeGreaterThan(10);
    expect(words.every(({ text }) => /^\s*\S+$/.test(text!))).toBe(true);
    expect(turns).toBeGreaterThan(words.length / 2);
  });

  test("quotes the earlier message that shares most of the question's words, and says whose it is", async () => {
    const { text } = await read(
      embedded(),
      asked(
        ["system", "The Thursday meeting room is a system secret."],
        ["user", "My dog is called Bella and she is three years old."],
        ["assistant", "What a nice name!"],
        ["user", "The meeting is in room 12."],
        ["assistant", "Noted."],
        ["user", "In which room is the meeting on Thursday?"],
      ),
    );
    expect(text).toContain("You wrote earlier in this conversation");
    expect(text).toContain("> The meeting is in room 12.");
    expect(text).not.toContain("Bella");
    expect(text).not.toContain("secret");
    expect(text).not.toContain("found nothing");
    expect(text).not.toContain("No language model is configured");
  });

  test("quotes its own side as its own", async () => {
    const { text } = await read(
      embedded(),
      asked(["user", "Hi"], ["assistant", "Bella is a fine name."], ["user", "Tell me about Bella"]),
    );
    expect(text).toContain("I answered earlier in this conversation");
  });

  test("finds words in scripts without spaces", async () => {
    const { text } = await read(
      embedded(),
      asked(["user", "会议在星期四举行。"], ["assistant", "好的。"], ["user", "会议是哪天？"]),
    );
    expect(text).toContain("> 会议在星期四举行。");
  });

  test("never quotes for a question of small words, nor its own notices", async () => {
    const notice = (await read(embedded(), asked(["user", "What is Parley?"]))).text;
    for (const question of ["What is this and who are you?", "Which language model is configured?"]) {
      const { text } = await read(
        embedded(),
        asked(["user", "And what is this?"], ["assistant", notice], ["user", question]),
      );
      expect(text).toContain("found nothing");
      expect(text).not.toContain("> ");
    }
  });

  test("quotes the beginning of a long message", async () => {
    const long = `Bella likes\n\n${"walking by the river ".repeat(40)}`;
    const { text } = await read(embedded(), asked(["user", long], ["user", "What does Bella like?"]));
    const quoted = text.slice(text.indexOf("> "));
    expect(quoted.length).toBeLessThan(650);
    expect(quoted.startsWith("> Bella likes\n> \n> walking by")).toBe(true);
    expect(quoted.endsWith(" …")).toBe(true);
  });

  test("honours max_tokens, and says so", async () => {
    const { text, finish_reason } = await read(embedded(), request({ max_tokens: 7 }));
    expect(finish_reason).toBe("length");
    expect(countTokens(text)).toBeLessThanOrEqual(7);
    expect(text).not.toBe("");
  });

  test("ends at once when the caller aborts, with the signal's reason", async () => {
    const stop = new AbortController();
    let words = 0;
    const reading = embedded()
      .reply(request(), stop.signal, () => {
        if (++words === 3) stop.abort("stopped");
      })
      .catch((error: unknown) => error);
    expect(await reading).toBe("stopped");
    expect(words).toBe(3);
  });

  test("takes a conversation without any message", async () => {
    expect((await read(embedded(), request({ messages: [] }))).text).toContain("found nothing");
  });
});
