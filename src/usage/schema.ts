/** What the usage routes take and give. */
import { type Static, t } from "elysia";
import { userId } from "../chat/schema.ts";
import { exampleIds } from "../http/docs.ts";
import { pageEnd } from "../http/paging.ts";
import {
  integer,
  nullable,
  oneOf,
  queryCursor,
  queryInteger,
  strictObject,
  text,
  textOfForm,
} from "../http/strict.ts";
import { usageGroups } from "../storage/usage-store.ts";
import { usageCursor } from "./cursors.ts";
import { parseMoment } from "./moment.ts";

const moment = (description: string) =>
  textOfForm(
    "moment",
    "must be unix seconds or a day such as 2026-11-24",
    (value) => parseMoment(value) !== null,
    { maxLength: 12, description, examples: ["2026-11-01"] },
  );

export const usageQuery = strictObject({
  user_id: t.Optional(userId()),
  key: t.Optional(
    text({
      minLength: 1,
      maxLength: 512,
      description: "The key that paid, by its id.",
      examples: ["env:0f1e2d3c4b5a6978"],
    }),
  ),
  model: t.Optional(text({ minLength: 1, maxLength: 200, description: "The model that answered." })),
  conversation_id: t.Optional(
    text({ maxLength: 200, description: "The conversation.", examples: [exampleIds.conversation] }),
  ),
  from: t.Optional(moment("Turns that started then or later: unix seconds, or a day of UTC.")),
  to: t.Optional(moment("Turns that started before: unix seconds, or a day of UTC.")),
  group_by: t.Optional(
    oneOf([...usageGroups], { description: "Sums for each of them; left out, there is one of all." }),
  ),
  format: t.Optional(
    oneOf(["json", "csv"], { description: "What `Accept` asks for if left out, which is json or text/csv." }),
  ),
  limit: queryInteger({
    minimum: 1,
    maximum: 1000,
    default: 100,
    description: "How many at most, 1 to 1000; 100 if left out. CSV holds all.",
  }),
  after: queryCursor(usageCursor, "The `next_after` of the page before, of the same group_by."),
});
export type UsageQueryString = Static<typeof usageQuery>;

const count = (description: string) => integer({ minimum: 0, description });

export const usdPattern = "^\\d{1,19}(\\.\\d{1,9})?$";

/** Dollars as an exact decimal number. */
export const usd = (description: string) =>
  t.String({ pattern: usdPattern, description, examples: ["0.0125"] });

const usageSums = strictObject(
  {
    group: nullable(t.String(), {
      description:
        "The user, key, model, conversation or day that is summed up; null without a group_by, and for users who were erased.",
    }),
    turns: count("Running ones included, which have used nothing yet."),
    prompt_tokens: count("What models read."),
    cached_tokens: count("The part of it that they had in their caches."),
    completion_tokens: count("What models wrote."),
    reasoning_tokens: count("The part of it that was spent on reasoning."),
    total_tokens: count("The sum of the turns' tokens_used."),
    estimated_turns: count("Turns whose tokens Parley counted, because the provider didn't."),
    cost_usd: usd("Dollars, exactly: of the turns whose models have a price."),
    unpriced_turns: count("Turns whose models have none."),
    first_token_ms: nullable(integer({ minimum: 0 }), {
      description: "From a turn's start to the first text of its reply, on average; null where none had any.",
    }),
    duration_ms: nullable(integer({ minimum: 0 }), {
      description: "How long a turn took, on average; null where none has ended.",
    }),
    background_requests: count("Requests to models that no turn waited for: memories and summaries."),
    background_tokens: count("What those took, beside the turns."),
    background_cost_usd: usd("What those cost, beside the turns."),
  },
  { title: "UsageSums" },
);

export const usagePage = strictObject(
  {
    object: t.Literal("usage"),
    group_by: nullable(oneOf([...usageGroups])),
    usage: t.Array(usageSums, {
      description: "Days, models and keys in their order, users in the order in which they came.",
    }),
    ...pageEnd(),
  },
  { title: "UsagePage" },
);
export type UsageSumsView = Static<typeof usageSums>;
