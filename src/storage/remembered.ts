/** Answers that hold for a moment: other instances may change what they are about. */

/** Each is as small as a name. */
const answersMax = 10_000;

interface Answer<T> {
  answer: Promise<T>;
  untilMs: number;
}

/** @param ask is asked again where the answer is older than this, was forgotten, or has failed */
export function remembered<T>(ask: (name: string) => Promise<T>, forMs: number) {
  const known = new Map<string, Answer<T>>();
  return {
    of(name: string): Promise<T> {
      const now = performance.now();
      const before = known.get(name);
      if (before !== undefined && before.untilMs > now) return before.answer;
      if (known.size >= answersMax) known.clear();
      const asked = { answer: ask(name), untilMs: now + forMs };
      known.set(name, asked);
      asked.answer.catch(() => {
        if (known.get(name) === asked) known.delete(name);
      });
      return asked.answer;
    },
    forget: (): void => known.clear(),
  };
}
