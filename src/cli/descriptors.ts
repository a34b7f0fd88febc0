/** File descriptors: each connection takes one, whether to a client or to a model. */
import { closeSync, openSync, readFileSync } from "node:fs";
import type { Limits } from "../config.ts";

/** For the program's own files, and for connections that wait or are refused. */
const reservedMax = 128;
const spareMin = 32;

/** How many this process may have; infinitely many where the system doesn't say. */
export function descriptorsMax(): number {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** The limits that so many descriptors allow: half of them for clients, half for models. */
export function withinDescriptors(limits: Limits, max: number): Limits {
  const half = Math.floor((max - Math.min(reservedMax, max / 2)) / 2);
  return Object.freeze({
    ...limits,
    turnsRunningMax: Math.min(limits.turnsRunningMax, half),
    requestsOpenMax: Math.min(limits.requestsOpenMax, half),
  });
}

/**
 * Whether hardly any of `max` are left. The lowest free one is given out first, so that a new one tells, in a
 * microsecond; it doesn't where one below it has just been closed, which the next connection takes.
 */
export function descriptorsRunShort(max: number): boolean {
  const [descriptor] = take(1);
  return descriptor === undefined || descriptor >= max - spareMin;
}

/** Whether there are enough again: so many are taken for a moment. */
export const descriptorsSuffice = (): boolean => take(2 * spareMin).length === 2 * spareMin;

/** As many new ones as there are, up to a number, closed again. */
function take(count: number): number[] {
  const taken: number[] = [];
  try {
    while (taken.length < count) taken.push(openSync("/dev/null", "r"));
  } catch {
    // There are no more: that is the answer.
  }
  for (const descriptor of taken) closeSync(descriptor);
  return taken;
}
