/** Whether this machine's clock is right, by what others say in their answers' `Date`. */
import { reasonOf } from "../service-client.ts";
import { type Finding, failed, ok, skipped } from "./finding.ts";

const skewSecondsMax = 30;

/** @param whose what the answer came from, in words */
export function examineClock(headers: Headers, whose: string, nowMs = Date.now()): Finding {
  const name = "clock";
  const theirs = Date.parse(headers.get("date") ?? "");
  if (Number.isNaN(theirs)) return skipped(name, `${whose} tells no time`);
  const seconds = Math.round((nowMs - theirs) / 1000);
  if (Math.abs(seconds) <= skewSecondsMax) return ok(name, `it agrees with ${whose}'s`);
  const where = seconds > 0 ? "ahead of" : "behind";
  const advice = "set the clocks by NTP, on both sides: timedatectl set-ntp true";
  return failed(name, `it is ${Math.abs(seconds)} s ${where} ${whose}'s`, advice);
}

/** The same by a request that needs no key: any answer has a `Date`. */
export async function examineClockBy(address: URL, secondsMax: number): Promise<Finding> {
  try {
    const response = await fetch(address, {
      signal: AbortSignal.timeout(secondsMax * 1000),
      redirect: "manual",
    });
    await response.body?.cancel();
    return examineClock(response.headers, address.host);
  } catch (error) {
    return skipped("clock", `${address.host} can't be asked: ${reasonOf(error)}`);
  }
}
