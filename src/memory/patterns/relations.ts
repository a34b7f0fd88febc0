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
  "(?:(?:older|elder|oldest|eldest|younger|youngest|little|big|twin|best|late|first|second|third|ex|step|foster|adopted)[ -]?)?";
const germanWhich =
  "(?:(?:ältere[rs]?|älteste[rs]?|jüngere[rs]?|jüngste[rs]?|kleine[rs]?|große[rs]?|beste[rs]?|verstorbene[rs]?) )?";

/** Regular expression sources. */
export const relation = `${which}(?:${english})`;
export const germanRelation = `${germanWhich}(?:${Object.keys(german).join("|")})`;

/** What somebody's name is the value of: `daughter:name`. */
export function nameSlot(relation: string): string {
  const words = relation.toLowerCase().split(" ");
  const last = words.pop()!;
  return `${[...words, german[last] ?? last].join(" ")}:name`;
}
