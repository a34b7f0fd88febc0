/** What all properties that are tried with random input share: how often, from which seed, and random cuts. */
import fc from "fast-check";

/**
 * The number of tries and the seed, which is printed. PARLEY_TEST_RUNS tries more, TEST_SEED repeats a run; a property
 * that fails also prints the path to its smallest counterexample.
 */
export function propertyOptions(numRuns = 200): { seed: number; numRuns: number } {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`TEST_SEED=${seed}`);
  return { seed, numRuns: Number(process.env.PARLEY_TEST_RUNS ?? numRuns) };
}

/** Text that is hard to carry: line ends, what looks like fields, characters of one to four bytes. */
export const anyText = (maxLength = 12): fc.Arbitrary<string> =>
  fc.string({
    unit: fc.constantFrom(
      ...'ab "\\:{}\t\0é漢👋\n\r\u2028\ufeff',
      "\r\n",
      "👩‍🚀",
      "\n\n",
      "data: x\n\n",
      "[DONE]",
      "event: error",
    ),
    maxLength,
  });

/** Where to cut bytes into chunks, as parts of a million, so that it says nothing about how many there are. */
export const anyCuts: fc.Arbitrary<number[]> = fc.oneof(
  { weight: 4, arbitrary: fc.array(fc.nat(1_000_000), { maxLength: 30 }) },
  // Byte by byte.
  { weight: 1, arbitrary: fc.constant([]).map(() => Array.from({ length: 4_000 }, (_, at) => at * 250)) },
);

/** The bytes in chunks, some of them empty; nothing is lost. */
export function cut(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = cuts.map((part) => Math.round((part / 1_000_000) * bytes.length));
  const edges = [0, ...places.toSorted((a, b) => a - b), bytes.length];
  return edges.slice(1).map((end, index) => bytes.slice(edges[index], end));
}

/** A body that is read chunk by chunk. */
export function bodyOf(chunks: readonly Uint8Array[]): ReadableStream<Uint8Array> {
  const left = [...chunks];
  return new ReadableStream({
    pull(controller) {
      const next = left.shift();
      if (next === undefined) controller.close();
      else controller.enqueue(next);
    },
  });
}
