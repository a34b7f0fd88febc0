/** English statements of a user about themselves, put into the third person. */

import { nameSlot, relation } from "../../search/relations.ts";
import { slotOf } from "../fact.ts";
import { statePatterns } from "./english-states.ts";
import { verbPatterns } from "./english-verbs.ts";
import { isAdjective, theirs, theUser } from "./english-wording.ts";
import { isOfTheMoment, nameIn, type Pattern } from "./wording.ts";

const name = (value: string): { text: string; slot: string } => ({
  text: `The user's name is ${value}.`,
  slot: "name",
});

const possessions =
  "dogs?|cats?|puppy|puppies|kittens?|horses?|rabbits?|hamsters?|parrots?|birds?|goldfish|tortoises?|turtles?|pets?|" +
  "child|children|kids?|daughters?|sons?|twins|triplets|brothers?|sisters?|siblings?|stepsons?|stepdaughters?|grandchildren|grandsons?|granddaughters?|" +
  "wife|husband|girlfriend|boyfriend|fianc[ée]e?|diabetes|asthma|epilepsy|adhd|dyslexia|migraines?|allerg(?:y|ies)";

const attributes =
  "favou?rite [\\p{L} ]{1,30}?|birthday|home ?town|address|e-?mail(?: address)?|phone number|job|profession|occupation|employer|hobby|hobbies|" +
  "native language|mother tongue|first language|pronouns|time ?zone|star sign|zodiac sign|blood type|shoe size|nationality|religion";
const attributeSlots: Record<string, string> = {
  job: "profession",
  occupation: "profession",
  "e-mail": "email",
  "email address": "email",
  "e-mail address": "email",
  "mother tongue": "native language",
  "first language": "native language",
  timezone: "time zone",
  hometown: "origin",
  "home town": "origin",
};
const noValue =
  /^(?:not|n't|wrong|missing|unknown|correct|invalid|public|private|secret|broken|important|boring|hard|stressful|killing|what|the (?:same|problem|wrong)|on (?:the|my) (?:way|mind|cv))\b/i;

/** What is lasting of someone: "plays the cello" and not "is coming". */
const habit =
  /^(?:plays|lives|works|studies|attends|loves|likes|hates|prefers|speaks|collects|sings|dances|reads|writes|teaches|runs|swims|paints|drives|rides|eats|drinks|owns|comes from|goes to|has (?!just|been|to|an? (?:problem|question|meeting|idea))\S+)\b.*|^(?:doesn't|does not|no longer|never|used to|can't|cannot|can) .+|^(?:is|was) (?:(?:a|an|from|called|named|born|allergic|married|vegetarian|vegan|in (?:grade|class|kindergarten|school|year|the \d)|studying|learning|training) ?.*|\d{1,3}(?: .*)?|\p{Lu}\p{L}+)$|^(?:died|passed away|moved to|grew up)\b.*/u;
const ofTheMoment = /^\S+ (?:it|this|that|these|those)\b/i;
/** The same of someone who is named, whatever it is that they do. */
const anyHabit =
  /^(?!is\b|was\b|has (?:just|been|to)\b|(?:says|thinks|wants|needs|asks|tells|means|seems|hopes) )\p{Ll}+s\b .+/u;

const namePatterns: readonly Pattern[] = [
  [
    /^(?:my (?:first |full |real |given )?name(?: is|'s)|i(?:'m| am) (?:called|named)|people call me|everyone calls me|they call me|i go by) (?<rest>(?!not |n't ).+)$/i,
    ({ rest }) => {
      const value = nameIn(rest!, false);
      return value === null ? null : name(value);
    },
  ],
  [
    /^my name (?:is not|isn't|'s not) (?<not>.+?)(?:,? (?:but|it's|it is|rather) (?<but>.+))?$/i,
    ({ not, but }) => {
      const value = but === undefined ? null : nameIn(but, false);
      if (value !== null) return name(value);
      const wrong = nameIn(not!, true);
      return wrong === null ? null : { text: `The user's name isn't ${wrong}.`, slot: "name", denies: wrong };
    },
  ],
  [
    /^(?:please |you can |you may |just |everybody may )*call me (?<rest>.+)$/i,
    ({ rest }) => {
      const value = nameIn(rest!, true);
      return value === null
        ? null
        : { text: `The user's name, as they want to be called, is ${value}.`, slot: "name" };
    },
  ],
  [
    /^(?:i'm|i am|this is) (?<rest>.+)$/i,
    ({ rest }, { greeted }) => {
      const value = greeted ? nameIn(rest!.replace(/ (?:from|in) \p{Lu}.*$/u, ""), true) : null;
      return value === null || isAdjective(value) ? null : name(value);
    },
  ],
];

const possessionPatterns: readonly Pattern[] = [
  [
    new RegExp(
      `^(?:i|we)(?:'ve got|'ve| have got| have| own) (?<rest>(?:(?:an?|one|two|three|four|five|six|\\d{1,2}|no|several|many) )?(?:(?!with |about |for |of |in |to |been )\\S+ ){0,3}?(?:${possessions})(?: (?:called|named|who|and|that|aged|from|since)\\b.*|,.*)?)$`,
      "i",
    ),
    ({ rest }) =>
      /^(?:had|seen|the|this|that|your|my) /i.test(rest!) ? null : { text: theUser(`has ${rest}`) },
  ],
  [
    new RegExp(
      `^(?:i|we) (?<not>don't|do not|no longer) have (?<rest>(?:\\S+ ){0,3}?(?:${possessions}))(?:\\sany ?more)?$`,
      "i",
    ),
    ({ not, rest }) => ({
      text: theUser(
        `${not === "no longer" ? not : "doesn't"} ${not === "no longer" ? "has" : "have"} ${rest}`,
      ),
    }),
  ],
  [
    new RegExp(`^my (?<what>${attributes})(?: is| are|'s) (?:on )?(?<rest>.+)$`, "iu"),
    ({ what, rest }) => {
      const words = what!.toLowerCase();
      if (noValue.test(rest!) || isOfTheMoment(rest!)) return null;
      return {
        text: `The user's ${words} is ${theirs(rest!)}.`,
        kind: /^favou?rite/.test(words) ? "preference" : "fact",
        slot: slotOf(attributeSlots[words] ?? words),
      };
    },
  ],
];

const relationPatterns: readonly Pattern[] = [
  [
    new RegExp(
      `^(?:my|our) (?<who>${relation})(?:'s name is|'s name's|'s called| is called| is named|'s named| goes by) (?<rest>.+)$`,
      "i",
    ),
    ({ who, rest }) => {
      const value = nameIn(rest!, false);
      return value === null ? null : { text: `The user's ${who}'s name is ${value}.`, slot: nameSlot(who!) };
    },
  ],
  [
    new RegExp(`^(?:[Mm]y|[Oo]ur) (?<who>${relation}) is (?<rest>\\p{Lu}\\p{L}+(?: \\p{Lu}\\p{L}+)?)$`, "u"),
    ({ who, rest }) =>
      isAdjective(rest!) || nameIn(rest!, true) === null
        ? null
        : { text: `The user's ${who}'s name is ${rest}.`, slot: nameSlot(who!) },
  ],
  [
    new RegExp(
      `^(?:[Mm]y|[Oo]ur) (?<who>${relation}),? (?<named>\\p{Lu}[\\p{L}'-]*(?: \\p{Lu}[\\p{L}'-]*)?),? (?<rest>.+)$`,
      "u",
    ),
    ({ who, named, rest }) =>
      habit.test(rest!) || anyHabit.test(rest!)
        ? { text: `The user's ${who} ${named} ${theirs(rest!)}.` }
        : null,
  ],
  [
    new RegExp(`^(?:[Mm]y|[Oo]ur) (?<who>${relation}) (?<rest>.+)$`, "u"),
    ({ who, rest }) =>
      habit.test(rest!) && !ofTheMoment.test(rest!) ? { text: `The user's ${who} ${theirs(rest!)}.` } : null,
  ],
];

/** In order: the first that fits counts. */
export const englishPatterns: readonly Pattern[] = [
  ...namePatterns,
  ...verbPatterns,
  ...statePatterns,
  ...possessionPatterns,
  ...relationPatterns,
];
