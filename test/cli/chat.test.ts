import { describe, expect, test } from "bun:test";
import { userInfo } from "node:os";
import { startByteProxy } from "../support/byte-proxy.ts";
import { startModelServer } from "../support/model-server.ts";
import { runParley, type Service, startService } from "../support/service.ts";

interface Listed {
  conversations: { id: string; user_id: string; message_count: number }[];
}

const environment = ({ port }: Service) => ({ PATH: process.env.PATH ?? "", PORT: String(port) });

/** What the last line of stderr says to run next. */
function goOnWith(stderr: string): string[] {
  const line = stderr.trim().split("\n").at(-1);
  if (!line?.startsWith("go on with: parley chat ")) throw new Error(`no way to go on in: ${stderr}`);
  return line.slice("go on with: parley ".length).split(" ");
}

describe("parley chat", () => {
  test("says one message, prints the reply alone on stdout and tells how to go on", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    model.reply(["Hello", " Ada", "!"]);
    const said = await runParley(["chat", "good", "morning"], environment(service));
    expect(said).toMatchObject({ exitCode: 0, stdout: "Hello Ada!\n" });
    expect(model.requests[0]!.body.messages.at(-1)).toEqual({ role: "user", content: "good morning" });

    const { body } = await service.get<Listed>("/v1/conversations");
    expect(body.conversations).toMatchObject([{ user_id: userInfo().username, message_count: 2 }]);
    expect(goOnWith(said.stderr)).toEqual(["chat", "--conversation", body.conversations[0]!.id]);
    await model.close();
  });

  test("goes on with a conversation as the user it belongs to", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    model.reply(["One."]);
    model.reply(["Two."]);
    const first = await runParley(["chat", "--user", "o'ada", "first"], environment(service));
    expect(first.stderr).toContain(`--user 'o'\\''ada'`);
    const [command, option, id] = goOnWith(first.stderr);
    const second = await runParley([command!, option!, id!, "second"], environment(service));
    expect(second).toMatchObject({ exitCode: 0, stdout: "Two.\n" });
    expect(model.requests[1]!.body.messages.slice(-3)).toEqual([
      { role: "user", content: "first" },
      { role: "assistant", content: "One." },
      { role: "user", content: "second" },
    ]);
    const { body } = await service.get<Listed>("/v1/conversations");
    expect(body.conversations).toMatchObject([{ id, user_id: "o'ada", message_count: 4 }]);
    await model.close();
  });

  test("takes what is piped in as one message, or in the place of a -", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    model.default((script) => script.reply(["Yes."]));
    const piped = await runParley(["chat"], environment(service), "two\nlines\n");
    expect(piped).toMatchObject({ exitCode: 0, stdout: "Yes.\n" });
    await runParley(["chat", "Explain this:", "-"], environment(service), "ünï\n");
    expect(model.requests.map(({ body }) => body.messages.at(-1)!.content)).toEqual([
      "two\nlines",
      "Explain this: \n\nünï",
    ]);
    await model.close();
  });

  test("loses and repeats nothing when connections are cut, and starts one turn", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    const words = Array.from({ length: 200 }, (_, index) => `wörd${index} `);
    // Before the answer, in its head, in the first events, and in the middle of tokens.
    for (const cuts of [[1], [100, 0], [700], [1500, 900, 1100, 40, 2000]]) {
      const received = model.requests.length;
      model.reply(words, { delayMs: 2 });
      const proxy = startByteProxy(service.port, cuts);
      const said = await runParley(["chat", "--url", proxy.url, "count"], environment(service));
      expect(said.stdout).toBe(`${words.join("")}\n`);
      expect(said.exitCode).toBe(0);
      expect(proxy.connections).toBe(cuts.length + 1);
      expect(model.requests).toHaveLength(received + 1);
      expect(goOnWith(said.stderr).slice(-2)).toEqual(["--url", proxy.url]);
      proxy.close();
    }
    await model.close();
  });

  test("gives up, in one line, on a connection that is always cut", async () => {
    await using service = await startService();
    const proxy = startByteProxy(service.port, Array(50).fill(0));
    const said = await runParley(["chat", "--url", proxy.url, "hello"], environment(service));
    expect(said).toMatchObject({ exitCode: 1, stdout: "" });
    expect(said.stderr).toMatch(/^parley: [^\n]+\n$/);
    expect(proxy.connections).toBeLessThan(10);
    proxy.close();
  });

  test("tells in one line what the service refuses", async () => {
    await using service = await startService();
    const cases: [args: string[], says: RegExp][] = [
      [["--conversation", "conv_1", "hello"], /There is no such conversation/],
      [["--user", "u".repeat(300), "hello"], /body\.user_id/],
      [["m".repeat(40_000)], /body\.message/],
    ];
    for (const [args, says] of cases) {
      const said = await runParley(["chat", ...args], environment(service));
      expect({ exitCode: said.exitCode, stdout: said.stdout }).toEqual({ exitCode: 1, stdout: "" });
      expect(said.stderr).toMatch(/^parley: [^\n]+\n$/);
      expect(said.stderr).toMatch(says);
    }
  });

  test("keeps the part of a reply that failed and says why", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    model.failAfter(2, "end");
    const said = await runParley(["chat", "hello"], environment(service));
    expect(said).toMatchObject({ exitCode: 1, stdout: "word1 word2 \n" });
    expect(said.stderr).toMatch(/^parley: the reply failed: [^\n]+$/m);
    await model.close();
  });

  test("sends the first key of the environment, without its role", async () => {
    const keys = "admin:key-0000000000000001,key-0000000000000002";
    await using service = await startService({ env: { PARLEY_API_KEYS: keys } });
    const refused = await runParley(["chat", "hello"], environment(service));
    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect(refused.stderr).toContain("one of the service's keys");
    const taken = await runParley(["chat", "hello"], { ...environment(service), PARLEY_API_KEYS: keys });
    expect(taken.exitCode).toBe(0);
    expect(taken.stdout + taken.stderr).not.toContain("key-00");
  });

  test("passes no terminal control through", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    model.reply(["a\x1b[2J\x1b]0;title\x07b\r\nc\rd\x7f\x9b31m\t\u{1F600}"]);
    const said = await runParley(["chat", "hello"], environment(service));
    expect(said.stdout).toBe("a␛[2J␛]0;title␇b\ncd␡\ufffd31m\t\u{1F600}\n");
    await model.close();
  });

  test("stops the turn on SIGINT and keeps what was said", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    const held = model.hold();
    held.send("Half of");
    const chat = Bun.spawn([process.execPath, "src/main.ts", "chat", "hello"], {
      cwd: new URL("../..", import.meta.url).pathname,
      env: environment(service),
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const reader = chat.stdout.getReader();
    let stdout = "";
    const decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      stdout += decoder.decode(value, { stream: true });
      if (stdout === "Half of") chat.kill("SIGINT");
    }
    expect(await chat.exited).toBe(130);
    expect(stdout).toBe("Half of\n");
    const [, , id] = goOnWith(await new Response(chat.stderr).text());
    const { body } = await service.get<{ messages: { content: string; status: string }[] }>(
      `/v1/conversations/${id}`,
    );
    expect(body.messages.at(-1)).toMatchObject({ content: "Half of", status: "stopped" });
    await (await held.request).closed;
    await model.close();
  });
});
