/** What some tests need of the machine. Where it is missing they are skipped with a notice, but never in CI. */

const inCi = process.env.CI === "true";

/**
 * Whether tests are skipped, which is said on the terminal.
 * @param what is needed, with the way to get it: "nginx (apt-get install nginx)"
 * @throws in CI (CI=true) where it is missing
 */
export function skipsWithout(what: string, found: boolean): boolean {
  if (found) return false;
  if (inCi) throw new Error(`CI needs ${what}`);
  console.warn(`skipped, for want of ${what}`);
  return true;
}

/** The path of an installed program, or null. Servers often lie where only root looks. */
export const programPath = (...names: string[]): string | null => {
  const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
  return names.map((name) => Bun.which(name, { PATH })).find((path) => path !== null) ?? null;
};
