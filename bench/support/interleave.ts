import { median } from "./statistics.ts";

/** Five, as the median of few runs still forgives one that a neighbour disturbed. */
export const runs = 5;

/**
 * Runs each measure once to warm its server up, then all of them in turn, five times over, so that what else the
 * machine does falls on all alike.
 * @returns the median of each
 */
export async function interleave<Name extends string>(
  measures: Record<Name, () => Promise<number>>,
): Promise<Record<Name, number>> {
  const names = Object.keys(measures) as Name[];
  const figures = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (const name of names) await measures[name]();
  for (let run = 0; run < runs; run += 1)
    for (const name of names) figures[name].push(await measures[name]());
  return Object.fromEntries(names.map((name) => [name, median(figures[name])])) as Record<Name, number>;
}
