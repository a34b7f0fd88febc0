/** The price table: read at start, with all its faults named; costs by it are exact. */
import { afterAll, describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { formatUsd } from "../../src/usage/money.ts";
import { readPrices } from "../../src/usage/prices.ts";
import { runParley, serviceEnv, temporaryDirectory } from "../support/service.ts";
import { writePrices } from "../support/usage.ts";

const directory = temporaryDirectory();
afterAll(() => rmSync(directory, { recursive: true }));

const faultsOf = async (table: unknown): Promise<string[]> => {
  const faults: string[] = [];
  readPrices(await writePrices(directory, table), faults);
  return faults;
};

describe("a cost", () => {
  const cost = async (
    price: object,
    tokens: [prompt: number, cached: number, completion: number, total?: number],
  ) => {
    const [prompt_tokens, cached_tokens, completion_tokens, total = prompt_tokens + completion_tokens] =
      tokens;
    const prices = readPrices(await writePrices(directory, { m: price }), []);
    return prices.costOf("m", { prompt_tokens, cached_tokens, completion_tokens, total_tokens: total });
  };

  test.each([
    [{ prompt: 0.25, cached_prompt: 0.025, completion: 2 }, [1_000, 400, 300], 760_000],
    [{ prompt: 0.25, completion: 2 }, [1_000, 400, 300], 850_000],
    // What is less than a nano-dollar counts as one.
    [{ prompt: 0.000001, completion: 0 }, [1, 0, 0], 1],
    [{ prompt: 0, completion: 0 }, [1_000, 0, 1_000], 0],
    // Reasoning that a provider counts in the total alone is paid for as well.
    [{ prompt: 1, completion: 10 }, [100, 0, 10, 150], 600_000],
    // More in the cache than there is can't be.
    [{ prompt: 1, cached_prompt: 0, completion: 0 }, [10, 20, 0], 0],
  ] as const)("by %p of %p is %p nano-dollars", async (price, tokens, expected) => {
    expect(await cost(price, [...tokens])).toBe(expected);
  });

  test("of a model without a price is unknown, and of the embedded one nothing", async () => {
    const prices = readPrices(null, []);
    const tokens = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2, cached_tokens: 0 };
    expect([prices.costOf("any", tokens), prices.costOf("embedded", tokens)]).toEqual([null, 0]);
  });
});

test.each([
  [0, "0"],
  [1, "0.000000001"],
  [1_500_000_000, "1.5"],
  ["27021597764222973", "27021597.764222973"],
])("%p nano-dollars are %p dollars", (nano, expected) => {
  expect(formatUsd(nano)).toBe(expected);
});

describe("the price table", () => {
  test("is refused with all its faults", async () => {
    const range = "must be dollars per million tokens, from 0 to 10000, with up to 6 decimals";
    expect(
      await faultsOf({
        a: { prompt: -1, completion: "2" },
        b: { prompt: 1.1234567, cached_prompt: null, completion: 10_001, output: 3 },
        c: [],
        d: { prompt: 1 },
      }),
    ).toEqual([
      `PARLEY_PRICES_FILE: a.prompt ${range}`,
      `PARLEY_PRICES_FILE: a.completion ${range}`,
      "PARLEY_PRICES_FILE: b.output is unknown: there are prompt, cached_prompt and completion",
      `PARLEY_PRICES_FILE: b.prompt ${range}`,
      `PARLEY_PRICES_FILE: b.cached_prompt ${range}`,
      `PARLEY_PRICES_FILE: b.completion ${range}`,
      "PARLEY_PRICES_FILE: c must be an object of prices",
      `PARLEY_PRICES_FILE: d.completion ${range}`,
    ]);
    expect(await faultsOf("{")).toEqual([`PARLEY_PRICES_FILE: ${directory}/prices.json is no JSON`]);
    expect(await faultsOf("[]")).toEqual([
      `PARLEY_PRICES_FILE: ${directory}/prices.json must hold an object of models`,
    ]);
    expect(await faultsOf({ a: { prompt: 0.000001, completion: 10_000 } })).toEqual([]);
  });

  test("stops the service from starting where it is wrong, beside all other faults", async () => {
    const env = { PARLEY_PRICES_FILE: `${directory}/nowhere.json`, PARLEY_MEMORY: "maybe" };
    const { exitCode, stderr } = await runParley(["serve"], serviceEnv(directory, { env }));
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain(`PARLEY_PRICES_FILE: ${directory}/nowhere.json can't be read`);
    expect(stderr).toContain("PARLEY_MEMORY must be on or off");
  });
});
