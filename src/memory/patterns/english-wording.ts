/** How English says it: the first person put into the third, adverbs, negations. */
const adverbs =
  "currently|now|still|actually|really|also|just|both|mostly|mainly|usually|often|absolutely|especially|particularly|totally|generally|only|originally|always";
export const adverb = `(?:(?:${adverbs}) )*`;
/** Such an adverb says nothing that lasts. */
export const passing = /\b(?:currently|now|still|actually|just|both) /g;

/** What somebody says of themselves, said by someone else. */
export const theirs = (text: string): string =>
  text
    .replace(/\b(?:my|our)\b/gi, "their")
    .replace(/\b(?:mine|ours)\b/gi, "theirs")
    .replace(/\b(?:myself|ourselves)\b/gi, "themselves")
    .replace(/\b(?:i|we)'m\b|\b(?:i am|we are|we're)\b/gi, "they are")
    .replace(/\b(?:i|we)'ve\b/gi, "they have")
    .replace(/\b(?:i was|we were)\b/gi, "they were")
    .replace(/\b(?:i|we)\b/gi, "they")
    .replace(/\b(?:me|us)\b/g, "them");

export const theUser = (text: string): string => `The user ${theirs(text)}.`;

/** A contrast within what follows: "not in Bern but in Basel". */
export const contrast = /^(?<not>.+?),? but (?:rather )?(?<but>.+)$/i;
export const noMore = / (?:any ?more|any longer)$/i;

/** Nationalities and religions, which stand where a name might. */
export const isAdjective = (word: string): boolean =>
  /(?:ish|ian|ese|can|wiss|erman|reek|utch|ench|olic|ewish|uslim)$/.test(word);
