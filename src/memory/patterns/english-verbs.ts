/** What the user does: "I live in Bern", "I no longer like jazz". */
import { slotOf } from "../fact.ts";
import { adverb, contrast, noMore, passing, theUser } from "./english-wording.ts";
import { isOfTheMoment, type Made, type Pattern, valueIn } from "./wording.ts";

interface Verb {
  /** The third person. */
  third: string;
  /** What must follow it. */
  followedBy?: RegExp;
  slot?: (rest: string) => string | null;
  taste?: true;
}

const place = {
  followedBy: /^(?:in|at|near|on|outside|close to) (?!fear|hope|denial|the (?:moment|past|now))/i,
  slot: () => "home",
};
const taste = { taste: true } as const;

const verbs: Record<string, Verb> = {
  live: { third: "lives", ...place },
  reside: { third: "resides", ...place },
  work: {
    third: "works",
    followedBy: /^(?:at|for|as|in|from) (?!\d)/i,
    slot: (rest) => (/^(?:at|for) /i.test(rest) ? "employer" : /^as /i.test(rest) ? "profession" : null),
  },
  come: { third: "comes", followedBy: /^from (?!the (?!\p{Lu}))/u, slot: () => "origin" },
  speak: { third: "speaks", followedBy: /^\p{L}/u },
  play: { third: "plays", followedBy: /^(?!(?:a|an|the|no|any) (?:\S+ )?(?:role|part)\b|around|with )/i },
  study: { third: "studies", followedBy: /^(?!for |the )/i },
  teach: { third: "teaches" },
  collect: { third: "collects" },
  own: { third: "owns" },
  drive: { third: "drives" },
  ride: { third: "rides" },
  eat: { third: "eats" },
  drink: { third: "drinks" },
  smoke: { third: "smokes" },
  wear: { third: "wears" },
  like: { third: "likes", ...taste },
  love: { third: "loves", ...taste },
  enjoy: { third: "enjoys", ...taste },
  adore: { third: "adores", ...taste },
  hate: { third: "hates", ...taste },
  dislike: { third: "dislikes", ...taste },
  detest: { third: "detests", ...taste },
  prefer: { third: "prefers" },
};

/** @param negated "no longer", "don't", "never" and so on; undefined where it is said to be so */
export function said(
  base: string,
  negated: string | undefined,
  adverbsSaid: string,
  followed: string,
): Made | null {
  const verb = verbs[base.toLowerCase()]!;
  const adverb = adverbsSaid.toLowerCase().replace(passing, "");
  const still = followed.replace(/ (?:now|currently|these days|at the moment)$/i, "");
  let rest = still.replace(noMore, "");
  const gone = rest !== still || negated === "no longer";
  let isNot = negated !== undefined;
  const notBut = contrast.exec(isNot ? rest : /^not /i.test(rest) ? rest.slice(4) : "");
  if (notBut !== null && notBut.groups!.not!.length < 80) {
    const preposition = /^(?:in|at|near|on|for|as|from) /i;
    const { not, but } = notBut.groups! as { not: string; but: string };
    rest =
      preposition.test(but) || verb.followedBy === undefined
        ? but
        : `${preposition.exec(not)?.[0] ?? ""}${but}`;
    isNot = false;
  }
  if (/^not\b/i.test(rest) || isOfTheMoment(rest) || (verb.followedBy && !verb.followedBy.test(rest)))
    return null;
  const value = valueIn(rest.replace(/^(?:in|at|near|on|for|as|from|outside|close to) /i, ""));
  const slot = verb.taste ? slotOf(`taste:${value}`) : (verb.slot?.(rest) ?? null);
  const kind = verb.taste || base === "prefer" ? "preference" : "fact";
  if (!isNot) return { text: theUser(`${adverb}${verb.third} ${rest}`), kind, slot };
  const not = gone
    ? `no longer ${adverb}${verb.third}`
    : negated === "never"
      ? `never ${verb.third}`
      : `doesn't ${adverb}${base.toLowerCase()}`;
  return { text: theUser(`${not} ${rest}`), kind, slot, denies: value };
}

export const verbPatterns: readonly Pattern[] = [
  [
    /^(?:i|we)(?:'ve| have)? (?:just |recently |finally |now )*(?:moved|relocated)(?: back| over)? to (?<rest>.+)$/i,
    ({ rest }) => ({ text: theUser(`moved to ${rest} and lives there`), slot: "home" }),
  ],
  [
    new RegExp(
      `^(?:i|we) (?<before>${adverb})(?:(?<not>no longer|don't|do not|never|can't|cannot) )?(?<after>${adverb})(?<verb>${Object.keys(verbs).join("|")}) (?<rest>.+)$`,
      "i",
    ),
    ({ not, before, after, verb, rest }) => said(verb!, not?.toLowerCase(), `${before}${after}`, rest!),
  ],
  [
    /^i (?:can't|cannot|can not) stand (?<rest>.+)$/i,
    ({ rest }) =>
      isOfTheMoment(rest!)
        ? null
        : {
            text: theUser(`can't stand ${rest}`),
            kind: "preference",
            slot: slotOf(`taste:${valueIn(rest!)}`),
          },
  ],
];
