/** What /docs says about the usage routes. */
import { json, naming, operation } from "../http/docs.ts";
import { csvHeader, csvLine } from "./csv.ts";

const sums = {
  group: "2026-11-24",
  turns: 12,
  prompt_tokens: 9_600,
  cached_tokens: 4_800,
  completion_tokens: 2_400,
  reasoning_tokens: 600,
  total_tokens: 12_000,
  estimated_turns: 0,
  cost_usd: "0.00612",
  unpriced_turns: 0,
  first_token_ms: 420,
  duration_ms: 2_310,
  background_requests: 4,
  background_tokens: 1_280,
  background_cost_usd: "0.0008",
};

const page = json("A page of sums.", {
  object: "usage",
  group_by: "day",
  usage: [sums],
  has_more: false,
  next_after: null,
});

export const docs = {
  usage: operation({
    tag: "Usage",
    id: "usage",
    summary: "Sum up usage",
    description:
      "What turns took: tokens, and what they cost by the price table. The sums are those of the turns, deleted ones and those of erased users included. A turn counts from its start on, in the day of UTC in which it started.",
    answers: {
      200: {
        ...page,
        content: { ...page.content, "text/csv": { example: csvHeader("day") + csvLine(sums, true) } },
      },
    },
    problems: naming,
  }),
};
