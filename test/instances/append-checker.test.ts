/** What compares histories with what is stored finds each way in which they can differ. */
import { describe, expect, test } from "bun:test";
import { checkAppends, piecesBetween, type ViolationKind } from "../support/appends/checker.ts";
import { type MadeUp, madeUp, pacedMessage } from "../support/appends/made-up.ts";
import { tellingOf } from "../support/telling-model.ts";

const kindsIn = ({ history, stored }: MadeUp): ViolationKind[] => [
  ...new Set(checkAppends(history, stored).map(({ kind }) => kind)),
];

/** What is found once this is done to a history in which all is well. */
function foundAfter(spoil: (made: MadeUp) => void): ViolationKind[] {
  const made = madeUp();
  spoil(made);
  return kindsIn(made);
}

/** Takes a turn out of all that is stored, and its numbers out of the sums. */
function lose({ stored }: MadeUp, id: string): void {
  const { total_tokens, usage_n, user_id } = stored.turns.find((turn) => turn.id === id)!;
  stored.turns = stored.turns.filter((turn) => turn.id !== id);
  stored.messages = stored.messages.filter(({ turn_id }) => turn_id !== id);
  stored.ledger = stored.ledger.filter(({ n }) => n !== usage_n);
  const conversation = stored.conversations.find((each) => each.id === `conv_${user_id}`)!;
  conversation.message_count -= 2;
  const counters = stored.counters.filter(({ used_tokens }) => used_tokens !== conversation.tokens_used);
  const own = stored.counters.find(({ used_tokens }) => used_tokens === conversation.tokens_used)!;
  conversation.tokens_used -= total_tokens;
  for (const counter of [own, ...counters.slice(-2)]) counter.used_tokens -= total_tokens;
}

test("a history in which all is well has no violation", () => {
  expect(kindsIn(madeUp())).toEqual([]);
});

describe("turns", () => {
  test("an acknowledged one that isn't stored is lost", () => {
    expect(foundAfter((made) => lose(made, "turn_ada_2"))).toEqual(["lost"]);
  });

  test("one that nobody was told of may be there or not, unless it was surely refused", () => {
    const forget = ({ history }: MadeUp, outcome: "refused" | "unknown"): void => {
      Object.assign(history[1]!, { told: [], reads: [], ends: [], endedMs: null, outcome });
    };
    expect(foundAfter((made) => forget(made, "unknown"))).toEqual([]);
    expect(foundAfter((made) => forget(made, "refused"))).toEqual(["refused but stored"]);
    const lost = (outcome: "refused" | "unknown") =>
      foundAfter((made) => {
        forget(made, outcome);
        lose(made, "turn_ada_2");
      });
    expect([lost("unknown"), lost("refused")]).toEqual([[], []]);
  });

  test("one that is stored under another id than was told is lost", () => {
    expect(foundAfter(({ history }) => (history[1]!.told[0]!.turn_id = "turn_other"))).toEqual(["lost"]);
  });

  test("a retry that made a second turn is found, by what it was told and by what is stored", () => {
    expect(
      foundAfter(({ history }) => {
        history[0]!.told.push({ turn_id: "turn_other", conversation_id: "conv_ada" });
      }),
    ).toEqual(["two turns"]);
    expect(
      foundAfter(({ history, stored }) => {
        stored.messages.find(({ seq, turn_id }) => seq === 3 && turn_id === "turn_ada_2")!.content =
          history[0]!.message;
        Object.assign(history[1]!, { told: [], reads: [], ends: [], outcome: "unknown" });
      }),
    ).toEqual(["stored twice"]);
  });

  test("one that nobody sent is found", () => {
    expect(foundAfter(({ history }) => history.splice(3, 1))).toEqual(["nobody's"]);
  });

  test("one that still runs is found, and a conversation that thinks so", () => {
    expect(
      foundAfter(({ stored }) => {
        stored.conversations[0]!.active_turn_id = "turn_ada_2";
      }),
    ).toEqual(["still running"]);
    expect(
      foundAfter(({ history, stored }) => {
        stored.turns[1]!.status = "running";
        stored.ledger[1]!.status = "running";
        stored.messages[3]!.status = "running";
        history[1]!.ends = [];
      }),
    ).toEqual(["still running"]);
  });
});

describe("conversations", () => {
  test("a turn in another one than was asked for, or told, is found", () => {
    expect(
      foundAfter(({ history }) => {
        history[0]!.told[0]!.conversation_id = "conv_bob";
      }),
    ).toEqual(["another conversation"]);
    expect(
      foundAfter(({ history }) => {
        history[1]!.conversation_id = "conv_bob";
      }),
    ).toEqual(["two conversations"]);
  });

  test("numbers with a gap or twice, and a wrong count, are found", () => {
    expect(foundAfter(({ stored }) => (stored.messages[3]!.seq = 5))).toEqual(["sequence"]);
    expect(foundAfter(({ stored }) => (stored.messages[2]!.seq = 2))).toEqual(["sequence"]);
    expect(foundAfter(({ stored }) => (stored.conversations[0]!.message_count = 6))).toEqual(["sequence"]);
  });

  test("a question without its reply is found", () => {
    expect(foundAfter(({ stored }) => stored.messages.splice(3, 1))).toContain("sequence");
  });

  test("what had ended before another was sent comes before it", () => {
    expect(
      foundAfter(({ stored }) => {
        for (const message of stored.messages.slice(0, 4)) message.seq += message.seq > 2 ? -2 : 2;
      }),
    ).toEqual(["order"]);
    expect(
      foundAfter(({ history, stored }) => {
        for (const message of stored.messages.slice(0, 4)) message.seq += message.seq > 2 ? -2 : 2;
        // It was sent before the other had ended, so that either may come first.
        history[1]!.sentMs = history[0]!.endedMs! - 1;
      }),
    ).toEqual([]);
  });
});

describe("replies", () => {
  test("a completed one that isn't all the model said is found", () => {
    expect(
      foundAfter(({ history, stored }) => {
        const reply = stored.messages[1]!;
        reply.content = reply.content.slice(0, -1);
        Object.assign(history[0]!, { reads: [], ends: [] });
      }),
    ).toEqual(["reply"]);
  });

  test("text that the model didn't say is found", () => {
    expect(
      foundAfter(({ history, stored }) => {
        stored.messages[1]!.content = `?${stored.messages[1]!.content.slice(1)}`;
        Object.assign(history[0]!, { reads: [], ends: [] });
      }),
    ).toContain("reply");
  });

  test("a turn that was stopped by nobody, or failed without a fault, is found", () => {
    const endAs = (status: string, error_code: string | null) =>
      foundAfter(({ history, stored }) => {
        Object.assign(stored.turns[1]!, { status, error_code });
        stored.ledger[1]!.status = status;
        stored.messages[3]!.status = status;
        history[1]!.ends = [{ status, error_code }];
      });
    expect(endAs("stopped", null)).toEqual(["reply"]);
    expect(endAs("failed", "model_unreachable")).toEqual(["reply"]);
    expect(endAs("failed", "storage_unavailable")).toEqual([]);
  });

  test("an end that was told in another way than it is stored is found", () => {
    for (const end of [
      { status: "interrupted" },
      { error_code: "turn_interrupted" },
      { length: 3 },
      { text: "turn" },
      { total_tokens: 1 },
    ]) {
      expect(foundAfter(({ history }) => history[0]!.ends.push(end))).toEqual(["end"]);
    }
  });
});

describe("streams", () => {
  test("one that brought something else is found, and one from another offset", () => {
    expect(foundAfter(({ history }) => (history[0]!.reads[0]!.text = "else"))).toEqual(["read"]);
    expect(
      foundAfter(({ history }) => history[0]!.reads.push({ from: 1, text: "turn ", lastMs: 0 })),
    ).toEqual(["read"]);
    const repeated = ({ history }: MadeUp): void => {
      const [first] = history[0]!.reads;
      first!.text = first!.text.slice(0, 10) + first!.text.slice(5);
    };
    expect(foundAfter(repeated)).toEqual(["read"]);
  });

  test("one that brought more than is kept of a turn whose instance lives is found", () => {
    expect(
      foundAfter(({ history, stored }) => {
        const turn = stored.turns[3]!;
        turn.error_code = "shutting_down";
        history[3]!.ends = [];
      }),
    ).toEqual(["read too far"]);
  });

  test("one of a turn whose instance died brought no more than a second of text too much", () => {
    const message = pacedMessage("bob 2");
    const { pieces, delayMs } = tellingOf(message);
    const inSecond = Math.floor(1_000 / delayMs);
    const seen = (count: number) =>
      foundAfter(({ history }) => {
        expect(history[3]!.message).toBe(message);
        history[3]!.reads.push({ from: 0, text: pieces.slice(0, 2 + count).join(""), lastMs: 0 });
      });
    expect(seen(inSecond)).toEqual([]);
    expect(seen(inSecond + 1)).toEqual(["read too far"]);
  });

  test("pieces are counted by where they end", () => {
    expect(piecesBetween(["ab", "c", "def"], 2, 6)).toBe(2);
    expect(piecesBetween(["ab", "c", "def"], 2, 5)).toBe(1);
    expect(piecesBetween(["ab", "c", "def"], 3, 3)).toBe(0);
  });
});

describe("the ledger", () => {
  test("a turn without an entry, an entry without a turn, and one of other numbers are found", () => {
    expect(foundAfter(({ stored }) => stored.ledger.splice(0, 1))).toContain("ledger");
    expect(foundAfter(({ stored }) => stored.ledger.push({ ...stored.ledger[0]!, n: 9 }))).toContain(
      "ledger",
    );
    expect(foundAfter(({ stored }) => (stored.ledger[0]!.status = "stopped"))).toEqual(["ledger"]);
    expect(foundAfter(({ stored }) => (stored.ledger[0]!.total_tokens += 1))).toContain("ledger");
    expect(foundAfter(({ stored }) => stored.ledger.push(stored.ledger[0]!))).toContain("ledger");
  });

  test("a conversation that counts other tokens than its turns is found", () => {
    expect(foundAfter(({ stored }) => (stored.conversations[0]!.tokens_used += 1))).toEqual(["ledger"]);
  });

  test("counters of another sum, and what is still reserved, are found", () => {
    expect(foundAfter(({ stored }) => (stored.counters[0]!.used_tokens += 1))).toEqual(["counters"]);
    expect(foundAfter(({ stored }) => stored.counters.pop())).toEqual(["counters"]);
    expect(foundAfter(({ stored }) => (stored.counters[0]!.reserved_tokens = 5))).toEqual(["counters"]);
    expect(foundAfter(({ stored }) => (stored.counters[0]!.reserved_nano_usd = 5))).toEqual(["counters"]);
  });
});
