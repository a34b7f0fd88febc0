import { expect, test } from "bun:test";
import type { Outcome } from "../../../bench/retrieval/evaluate.ts";
import { decisionsOf, unanswerableKinds } from "../../../bench/retrieval/unanswerable.ts";

const outcome = (id: string, kind: string, relevant: boolean[], total: number): Outcome => ({
  question: { id, language: "en", kind },
  hits: relevant.map(() => "a hit"),
  relevant,
  total,
});

const answerable = (id: string, ...relevant: boolean[]) => outcome(id, "keyword", relevant, 1);

test("each half has every other question of each kind, and says what was returned and what was lost", () => {
  const unanswerable = unanswerableKinds.flatMap((kind) => [
    outcome(`${kind} 1`, kind, [], 0),
    outcome(`${kind} 2`, kind, [false], 0),
    outcome(`${kind} 3`, kind, kind === "off-topic" ? [] : [false, false], 0),
    outcome(`${kind} 4`, kind, [], 0),
  ]);
  const decided = {
    deciding: [
      answerable("kept", true, false),
      answerable("lost"),
      answerable("lost too", false),
      answerable("never found", false),
      ...unanswerable,
    ],
    all: [
      answerable("kept", true, false),
      answerable("lost", false, true),
      answerable("lost too", false, true),
      answerable("never found", false),
      ...unanswerable,
    ],
  };
  expect(decisionsOf(decided, "tuned")).toEqual({
    returned: { "off-topic": 0, "shared-word": 0.5, "other-entity": 0.5, "absent-attribute": 0.5 },
    lost: 1 / 2,
    results: 3 / 2,
  });
  expect(decisionsOf(decided, "held out")).toEqual({
    returned: { "off-topic": 0.5, "shared-word": 0.5, "other-entity": 0.5, "absent-attribute": 0.5 },
    lost: 1,
    results: 1 / 2,
  });
});
