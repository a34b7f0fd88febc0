/** What the user is: "I'm vegan", "I am a nurse", "I was born in Paris". */
import { said } from "./english-verbs.ts";
import { adverb, contrast, noMore, theirs, theUser } from "./english-wording.ts";
import { isOfTheMoment, type Made, type Pattern } from "./wording.ts";

const professions =
  /(?:\p{L}{2}(?:er|or|ist|ian|eer|yst|man|woman|grapher|ant|ect|smith|wright)|nurse|chef|cook|coach|pilot|judge|nun|monk|vet|clerk|mechanic|paramedic|athlete|critic|diplomat|guide|priest|poet|postdoc|attorney|secretary|midwife|dev|au pair|civil servant)$/iu;
/** What ends like a profession and is none, or what someone is only to this service. */
const noProfessions =
  /(?:^|\b)(?:bit|lot|little|number|other|member|user|customer|subscriber|newcomer|beginner|loser|lover|owner|believer|supporter|admin|administrator|moderator|superuser|tester|matter|late ?comer|adult|human|woman|man|winner|stranger|foreigner|outsider|sucker|follower)$/i;
const occupations = /(?:^| )(?:student|intern|trainee|apprentice|freelancer|founder|ceo|cto|cfo)$/i;
const roles =
  /^(?:(?:single|proud|new|stay-at-home) )?(?:parent|mother|father|mum|mom|dad|grandmother|grandfather|widow|widower|veteran|refugee|twin|vegetarian|vegan|pescatarian|diabetic|pensioner|retiree)$/i;
const diets = /^(?:a )?(?:strict )?(?:vegetarian|vegan|pescatarian|omnivore)\b/i;

function profession(rest: string): Made | null {
  const [, words] = /^(?:a|an) (.+)$/i.exec(rest) ?? [];
  if (words === undefined) return null;
  const head = words.split(/ (?:at|in|for|from|with|of|by|who|and|on)\b|,/)[0]!.trim();
  if (head.split(" ").length > 4 || noProfessions.test(head)) return null;
  if (roles.test(head)) return { text: theUser(`is ${rest}`) };
  if (occupations.test(head)) return { text: theUser(`is ${rest}`), slot: "profession" };
  return professions.test(head)
    ? {
        text: `The user is ${theirs(rest)}${words === head ? " by profession" : ", by profession"}.`,
        slot: "profession",
      }
    : null;
}

/** What may follow "I am", with the slot of it. */
const states: readonly [form: RegExp, slot: string | null][] = [
  [/^from (?!home\b|work\b|the (?!\p{Lu})).+$/u, "origin"],
  [/^(?:severely |very |highly )?(?:allergic to|intolerant (?:to|of)) .+$/i, null],
  [/^(?:lactose|gluten)[- ]intolerant$/i, null],
  [/^(?:a )?(?:strict )?(?:vegetarian|vegan|pescatarian)$/i, "diet"],
  [
    /^(?:married|single|divorced|widowed|engaged|separated)(?: (?:to|with|since|for) .+)?$/i,
    "marital status",
  ],
  [/^\d{1,3}(?: years? old)?$/i, "age"],
  [
    /^(?:left|right)-handed$|^colou?r[- ]?blind$|^(?:deaf|blind|dyslexic|diabetic|pregnant|retired|unemployed|self-employed|bilingual)$/i,
    null,
  ],
  [/^fluent in .+$/i, null],
  [/^(?:learning|studying) (?!the (?:code|text|problem))\p{L}.+$/iu, null],
  [/^(?:afraid|scared|terrified) of .+$/i, null],
];

const inclinations = /^(?:(?:a )?(?:big |huge |great )?fan of|fond of|into|interested in|keen on) .+$/i;

function am(negated: string | undefined, followed: string): Made | null {
  const rest = followed.replace(noMore, "");
  const not =
    negated === undefined ? "" : rest !== followed || negated === "no longer" ? "no longer " : "not ";
  const from = contrast.exec(negated !== undefined && /^from /i.test(rest) ? rest : "")?.groups?.but;
  if (from !== undefined) return am(undefined, /^from /i.test(from) ? from : `from ${from}`);
  const working =
    /^(?:based|living) (?<where>in .+)$|^(?:working|employed) (?<how>(?:at|for|as|by) .+)$/i.exec(
      rest,
    )?.groups;
  if (working) {
    const base = working.where === undefined ? "work" : "live";
    return said(
      base,
      negated,
      "",
      (working.where ?? working.how!.replace(/^by /i, "for ")) + (rest === followed ? "" : " any more"),
    );
  }
  for (const [form, slot] of states) {
    if (!form.test(rest)) continue;
    const denies = not === "" ? null : rest.replace(/^(?:a|an|from) /i, "");
    return {
      text: theUser(`is ${not}${/^\d+$/.test(rest) ? `${rest} years old` : rest}`),
      slot: diets.test(rest) ? "diet" : slot,
      denies,
    };
  }
  if (inclinations.test(rest)) {
    const object = rest.replace(/^.*? (?:of|in|on) |^into /i, "");
    return isOfTheMoment(object) ? null : { text: theUser(`is ${not}${rest}`), kind: "preference" };
  }
  return not === "" ? profession(rest) : null;
}

const birthdays =
  /\d{1,2}.*\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w* \d{1,2}\b|\d[/.-]\d/i;

export const statePatterns: readonly Pattern[] = [
  [
    new RegExp(`^(?:i'm|i am|we're|we are) ${adverb}(?:(?<not>not|no longer) )?${adverb}(?<rest>.+)$`, "i"),
    ({ not, rest }) => am(not?.toLowerCase(), rest!),
  ],
  [
    /^i was born (?<rest>(?:on|in|at) .+)$/iu,
    ({ rest }) => {
      const slot = birthdays.test(rest!) ? "birthday" : /\d/.test(rest!) ? null : "birthplace";
      return { text: theUser(`was born ${rest}`), slot };
    },
  ],
  [/^i grew up (?<rest>in .+)$/i, ({ rest }) => ({ text: theUser(`grew up ${rest}`) })],
];
