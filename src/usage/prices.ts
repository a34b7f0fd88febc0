/** What models cost: a table in a file, and costs by it. */
import { readFileSync } from "node:fs";
import type { Usage } from "../storage/store.ts";
import { parseDecimal } from "./money.ts";

/** The model that answers without one costs nothing. */
const free = "embedded";

const priceDecimals = 6;
/** Dollars per million tokens. */
const usdMax = 10_000;
const priceMax = usdMax * 10 ** priceDecimals;
/** A price in dollars per million tokens, in its last decimal place, is a price per token in so many parts of a nano-dollar. */
const partsPerNanoUsd = 1_000;

/** In millionths of a dollar per million tokens, which are trillionths of a dollar per token. */
export interface Price {
  prompt: number;
  /** For the part of a prompt that the provider had in its cache. */
  cached_prompt: number;
  completion: number;
}

/** What a cost is worked out from. */
export type Tokens = Pick<Usage, "prompt_tokens" | "completion_tokens" | "total_tokens"> & {
  cached_tokens: number;
};

export class Prices {
  constructor(readonly byModel: ReadonlyMap<string, Price> = new Map()) {}

  has(model: string): boolean {
    return model === free || this.byModel.has(model);
  }

  /** In nano-dollars, rounded up; null for a model without a price. */
  costOf(
    model: string,
    { prompt_tokens, completion_tokens, total_tokens, cached_tokens }: Tokens,
  ): number | null {
    if (model === free) return 0;
    const price = this.byModel.get(model);
    if (price === undefined) return null;
    const cached = Math.min(cached_tokens, prompt_tokens);
    // Some providers leave reasoning out of the completion, but not out of the total.
    const written = Math.max(completion_tokens, total_tokens - prompt_tokens);
    const parts =
      (prompt_tokens - cached) * price.prompt + cached * price.cached_prompt + written * price.completion;
    return Math.ceil(parts / partsPerNanoUsd);
  }

  /** The most that some tokens cost by any of the models, in nano-dollars; null where one of them has no price. */
  worstOf(models: readonly string[], prompt_tokens: number, completion_tokens: number): number | null {
    let worst = 0;
    for (const model of models) {
      const { prompt = 0, cached_prompt = 0 } = this.byModel.get(model) ?? {};
      // Where the cache costs more than the rest, as writing to it may, all may come from there.
      const cached_tokens = cached_prompt > prompt ? prompt_tokens : 0;
      const total_tokens = prompt_tokens + completion_tokens;
      const cost = this.costOf(model, { prompt_tokens, completion_tokens, total_tokens, cached_tokens });
      if (cost === null) return null;
      worst = Math.max(worst, cost);
    }
    return worst;
  }
}

/**
 * Reads a price table: `{"gpt-5-mini": {"prompt": 0.25, "cached_prompt": 0.025, "completion": 2}}`, in dollars per million
 * tokens. What is in the cache costs as much as the rest where no price is given.
 * @param faults gets what is wrong with it, all of it
 */
export function readPrices(path: string | null, faults: string[]): Prices {
  if (path === null) return new Prices();
  const fault = (what: string): void => void faults.push(`PARLEY_PRICES_FILE: ${what}`);
  let table: unknown;
  try {
    table = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    fault(error instanceof SyntaxError ? `${path} is no JSON` : `${path} can't be read`);
    return new Prices();
  }
  if (!isObject(table)) {
    fault(`${path} must hold an object of models`);
    return new Prices();
  }
  const byModel = new Map<string, Price>();
  for (const [model, given] of Object.entries(table)) {
    if (!isObject(given)) {
      fault(`${model} must be an object of prices`);
      continue;
    }
    const { prompt, cached_prompt, completion, ...unknown } = given;
    for (const name of Object.keys(unknown)) {
      fault(`${model}.${name} is unknown: there are prompt, cached_prompt and completion`);
    }
    const price = (name: string, value: unknown): number => {
      const read = typeof value === "number" ? parseDecimal(String(value), priceDecimals) : null;
      if (read !== null && read <= priceMax) return read;
      fault(
        `${model}.${name} must be dollars per million tokens, from 0 to ${usdMax}, with up to ${priceDecimals} decimals`,
      );
      return 0;
    };
    const ofPrompt = price("prompt", prompt);
    byModel.set(model, {
      prompt: ofPrompt,
      cached_prompt: cached_prompt === undefined ? ofPrompt : price("cached_prompt", cached_prompt),
      completion: price("completion", completion),
    });
  }
  return new Prices(byModel);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
