/** Text for what is filled: words as frequent as in speech. */
const vocabulary = Array.from({ length: 20_000 }, (_, index) => `w${index.toString(36)}`);

/** Words of a sentence, the same in every run; few are frequent and many are rare, as in speech. */
export function sentence(seed: number, words: number): string {
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  const picked: string[] = [];
  for (let count = 0; count < words; count += 1) {
    state = (state * 1_664_525 + 1_013_904_223) >>> 0;
    picked.push(vocabulary[Math.floor((state / 2 ** 32) ** 3 * vocabulary.length)]!);
  }
  return picked.join(" ");
}
