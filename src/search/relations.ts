/** People and animals of a user's life, as words for them in English and German. */

/** The slot's word for each; English words stand for themselves. */
const german: Record<string, string> = {
  tochter: "daughter",
  sohn: "son",
  kind: "child",
  baby: "baby",
  frau: "wife",
  ehefrau: "wife",
  mann: "husband",
  ehemann: "husband",
  partner: "partner",
  partnerin: "partner",
  freund: "friend",
  freundin: "friend",
  verlobte: "fiancé",
  verlobter: "fiancé",
  mutter: "mother",
  mama: "mother",
  vater: "father",
  papa: "father",
  schwester: "sister",
  bruder: "brother",
  oma: "grandmother",
  großmutter: "grandmother",
  opa: "grandfather",
  großvater: "grandfather",
  tante: "aunt",
  onkel: "uncle",
  nichte: "niece",
  neffe: "nephew",
  cousin: "cousin",
  cousine: "cousin",
  chef: "boss",
  chefin: "boss",
  kollege: "colleague",
  kollegin: "colleague",
  nachbar: "neighbour",
  nachbarin: "neighbour",
  lehrer: "teacher",
  lehrerin: "teacher",
  arzt: "doctor",
  ärztin: "doctor",
  hund: "dog",
  hündin: "dog",
  katze: "cat",
  kater: "cat",
  pferd: "horse",
  hase: "rabbit",
  hamster: "hamster",
  vogel: "bird",
  papagei: "parrot",
};

const english =
  "daughter|son|child|kid|baby|wife|husband|partner|girlfriend|boyfriend|fiancée?|fiancee?|spouse|mother|mom|mum|father|" +
  "dad|sister|brother|grandmother|grandma|grandfather|grandpa|aunt|uncle|niece|nephew|cousin|friend|boss|manager|" +
  "colleague|coworker|co-worker|neighbou?r|roommate|flatmate|teacher|doctor|dentist|therapist|dog|cat|puppy|kitten|" +
  "horse|rabbit|hamster|parrot|bird|goldfish|tortoise|turtle";

const which =
  "(?:(?:older|elder|oldest|eldest|younger|youngest|little|big|twin|best|late|first|second|third|other|new|old|ex|step|foster|adopted)[ -]?)?";
const germanWhich =
  "(?:(?:ältere[rs]?|älteste[rs]?|jüngere[rs]?|jüngste[rs]?|kleine[rs]?|große[rs]?|beste[rs]?|verstorbene[rs]?|zweite[rs]?|andere[rs]?|neue[rs]?|alte[rs]?) )?";

/** Regular expression sources. */
export const relation = `${which}(?:${english})`;
export const germanRelation = `${germanWhich}(?:${Object.keys(german).join("|")})`;

const ofOne = new Set(
  "wife husband partner girlfriend boyfriend fiancé fiancée fiance fiancee spouse mother mom mum father dad boss manager".split(
    " ",
  ),
);
/** With these there may still be several. */
const ofSeveral = /^(?:(?:other|new|old|(?:ander|neu|alt)e[rs]?) )?\p{L}+$/u;
const anyRelation = new RegExp(`(?:^| )(?:${english})$`);

/** Whether "my …" may mean one of several: a second dog takes nobody's place, another wife does. @param relation in English */
export const mayBeSeveral = (relation: string): boolean =>
  ofSeveral.test(relation) && anyRelation.test(relation) && !ofOne.has(relation.split(" ").at(-1)!);

/** What somebody's name is the value of: `wife:name`, `older sister:name`; null where there may be several of them. */
export function nameSlot(relation: string): string | null {
  const words = relation.toLowerCase().split(" ");
  const last = words.pop()!;
  const inOneLanguage = [...words, inEnglish(last)].join(" ");
  return mayBeSeveral(inOneLanguage) ? null : `${inOneLanguage}:name`;
}

const inEnglish = (word: string): string => german[word] ?? word;

const eachRelation = new RegExp(
  `(?<!\\p{L})(?:${english}|${Object.keys(german).join("|")})(?!\\p{L})`,
  "giu",
);
const possessed = new RegExp(
  `(?<!\\p{L})(?:(?:my|our|the user's) (?<who>${relation})|(?:meine?[rmns]?|unsere?[rmns]?) (?<wer>${germanRelation}))(?!\\p{L})`,
  "iu",
);

/** All people and animals that a text speaks of, by the English word: `sister` for "Meine Schwester Lena". */
export const relationsIn = (text: string): Set<string> =>
  new Set(Array.from(text.matchAll(eachRelation), ([word]) => inEnglish(word.toLowerCase())));

/** Of whom in the user's life a text speaks: `sister` for "my older sister's birthday"; null where it is nobody. */
export function relationOf(text: string): string | null {
  const { who, wer } = possessed.exec(text)?.groups ?? {};
  const last = (who ?? wer)?.toLowerCase().split(/[ -]/).at(-1);
  return last === undefined ? null : inEnglish(last);
}
