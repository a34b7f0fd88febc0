/** German statements of a user about themselves. They are quoted, because questions use the same words: "Wo wohne ich?" */

import { germanRelation, nameSlot } from "../../search/relations.ts";
import { slotOf } from "../fact.ts";
import { isOfTheMoment, nameIn, type Pattern, quotedFact, valueIn } from "./wording.ts";

const adverb =
  "(?:(?:jetzt|zurzeit|derzeit|momentan|aktuell|seit \\S+|noch|immer|auch|ursprünglich|eigentlich|sehr|total|wirklich|am liebsten|gern|gerne|schon|selbst) )*";

const name = (value: string, text: string) => ({
  text: `The user's name is ${value} (“${text}”).`,
  slot: "name",
});

/** A quoted fact about a slot; after "nicht mehr" it only says what doesn't hold, and after "nicht …, sondern" what does. */
const about =
  (slot: string | null): Pattern[1] =>
  ({ not, rest }, { text }) => {
    if (isOfTheMoment(rest!)) return null;
    const corrected = /\bsondern\b/i.test(rest!);
    return {
      text: quotedFact(text),
      slot,
      denies: not && !corrected ? valueIn(rest!).replace(/ gezogen$/, "") : null,
    };
  };

const taste: Pattern[1] = ({ rest }, { text }) => {
  const value = valueIn(rest!).replace(
    /^(?:überhaupt |gar )?(?:nicht|kein\w*) | (?:überhaupt |gar )?nicht(?: mehr)?$|^gern\w* /gi,
    "",
  );
  return isOfTheMoment(rest!)
    ? null
    : { text: quotedFact(text), kind: "preference", slot: slotOf(`taste:${value}`) };
};

const professions =
  /^(?:Student|Lehr|Ärzt|Arzt|Anwält|Anwalt|Rentner|Krankenschwester|Pflege|Koch|Köch|Ingenieur|Selbstst)|(?:er|erin|ist|istin|ent|entin|or|orin|eur|eurin|mann|frau|loge|login|arzt|ärztin|ant|antin|ekt|ektin|wirt|wirtin|kraft)$/;

const nationalities =
  /(?:land|länd|reich|schweiz|ital?ien|span|afrikan|amerikan|ukrain|japan|holländ)\p{Ll}*er(?:in)?$|^(?:Deutsche?r?|Schweizer(?:in)?|Spanier(?:in)?)$/iu;

export const germanPatterns: readonly Pattern[] = [
  [
    /^(?:ich heiße|ich heisse|mein (?:vor)?name ist|man nennt mich|alle nennen mich) (?<rest>(?!nicht ).+)$/i,
    ({ rest }, { text }) => {
      const value = nameIn(rest!, false);
      return value === null ? null : name(value, text);
    },
  ],
  [
    /^(?:ich heiße|ich heisse|mein name ist) nicht (?<not>[^,]+?)(?:,? sondern (?<but>.+))?$/i,
    ({ not, but }, { text }) => {
      const value = but === undefined ? null : nameIn(but, false);
      if (value !== null) return name(value, text);
      const wrong = nameIn(not!.replace(/^mehr /i, ""), true);
      return wrong === null ? null : { text: quotedFact(text), slot: "name", denies: wrong };
    },
  ],
  [
    /^(?:bitte )?(?:nenn|nenne|nennt|nennen sie) mich (?:bitte )?(?<rest>.+)$/i,
    ({ rest }, { text }) => {
      const value = nameIn(rest!, true);
      return value === null ? null : name(value, text);
    },
  ],
  [
    /^ich bin (?:die |der )?(?<rest>.+)$/i,
    ({ rest }, { greeted, text }) => {
      const value = greeted ? nameIn(rest!.replace(/ (?:aus|in) .*$/, ""), true) : null;
      return value === null || professions.test(value) ? null : name(value, text);
    },
  ],
  [
    new RegExp(
      `^(?:ich|wir) (?:wohnen?|leben?) ${adverb}(?<not>nicht (?:mehr )?)?(?:in|im|bei|am|an|auf) (?<rest>.+)$`,
      "i",
    ),
    about("home"),
  ],
  [/^(?:ich|wir) (?:bin|sind) (?:\S+ ){0,3}?nach (?<rest>.+) (?:gezogen|umgezogen)$/i, about("home")],
  [
    new RegExp(
      `^(?:ich komme|ich bin|ich stamme|wir kommen) ${adverb}(?<not>nicht )?aus (?<rest>\\p{Lu}.*|der .+)$`,
      "iu",
    ),
    about("origin"),
  ],
  [
    new RegExp(`^ich arbeite ${adverb}(?<not>nicht (?:mehr )?)?(?:bei|für) (?<rest>.+)$`, "i"),
    about("employer"),
  ],
  [
    new RegExp(`^ich (?:arbeite|bin) ${adverb}(?<not>nicht (?:mehr )?)?als (?<rest>.+)$`, "i"),
    about("profession"),
  ],
  [
    new RegExp(
      `^[Ii]ch bin ${adverb}(?<rest>\\p{Lu}\\p{L}+)(?: von Beruf)?(?: (?:bei|in|an|am|im) .+)?$`,
      "u",
    ),
    ({ rest }, { text }) => {
      if (/^(?:Vegetarier|Veganer)/.test(rest!)) return { text: quotedFact(text), slot: "diet" };
      if (nationalities.test(rest!)) return { text: quotedFact(text), slot: "nationality" };
      return professions.test(rest!) && !/^(?:Admin|Nutzer|Benutzer|Kunde|Moderator)/.test(rest!)
        ? { text: quotedFact(text), slot: "profession" }
        : null;
    },
  ],
  [
    /^ich (?:bin|lebe|esse) (?<not>nicht (?:mehr )?)?(?<rest>vegetarisch|vegan|vegetarier(?:in)?|veganer(?:in)?)(?: mehr)?$/i,
    about("diet"),
  ],
  [
    /^ich bin (?<not>nicht (?:mehr )?)?(?<rest>(?:verheiratet|ledig|geschieden|verwitwet|verlobt|single)(?: mit .+)?)$/i,
    about("marital status"),
  ],
  [/^ich bin (?<rest>\d{1,3})(?: jahre? alt)?$/i, about("age")],
  [new RegExp(`^ich bin ${adverb}(?<not>nicht )?allergisch (?:gegen|auf) (?<rest>.+)$`, "i"), about(null)],
  [
    /^ich (?:habe|hab|leide an|leide unter) (?:eine |einen )?(?<rest>(?:\S*allergie|diabetes|asthma|migräne|epilepsie|adhs|zöliakie)\b.*)$/i,
    about(null),
  ],
  [
    /^(?:mein geburtstag ist|ich habe|ich hab) (?:am )?(?<rest>\d{1,2}\..+?)(?: geburtstag)?$/i,
    about("birthday"),
  ],
  [/^ich (?:bin|wurde) (?<rest>(?:am|im) \d?.*) geboren$/i, about("birthday")],
  [/^ich (?:bin|wurde) in (?<rest>.+) geboren$/i, about("birthplace")],
  [/^ich spreche (?<not>kein |nicht )?(?<rest>\p{L}.+)$/iu, about(null)],
  [/^(?:ich|wir) (?:mag|mögen|liebe|lieben|hasse|hassen|bevorzuge|bevorzugen) (?<rest>.+)$/i, taste],
  [
    /^ich (?:esse|trinke|höre|spiele|lese|rauche) (?<rest>(?:(?:sehr |am )?(?:gern|gerne|liebsten|kein|keine|keinen|nie|lieber) ).+|.+ (?:gern|gerne|lieber))$/i,
    taste,
  ],
  [/^ich spiele (?<rest>\p{Lu}\p{L}+(?: (?:in|bei|seit) .+)?)$/iu, about(null)],
  [
    /^(?:ich|wir) haben? (?<rest>(?:keine?n?|eine?n?|zwei|drei|vier|fünf|\d+) (?:\S+ ){0,2}?(?:hunde?|katzen?|kater|pferde?|hasen?|hamster|vögel|vogel|haustiere?|kind|kinder|töchter|tochter|sohn|söhne|zwillinge|brüder|bruder|schwestern?|geschwister|enkel\w*|frau|mann|freund|freundin)(?: (?:namens|und|der|die|das|aus)\b.*|,.*)?)$/i,
    about(null),
  ],
  [
    new RegExp(`^(?:mein|meine|unser|unsere) (?<who>${germanRelation}) (?:heißt|heisst) (?<rest>.+)$`, "i"),
    ({ who, rest }, { text }) => {
      const value = nameIn(rest!, false);
      return value === null ? null : { text: quotedFact(text), slot: nameSlot(who!) };
    },
  ],
  [
    new RegExp(
      `^(?:mein|meine|unser|unsere) (?<who>${germanRelation}) (?:(?<named>\\p{Lu}[\\p{L}'-]*),? )?(?:spielt|wohnt|lebt|arbeitet|studiert|lernt|liebt|mag|hasst|spricht|sammelt|singt|tanzt|malt|liest|schreibt|geht|isst|trinkt|hat|kommt aus|ist (?:\\d|ein|aus|allergisch|vegan|vegetarisch|verheiratet|\\p{Lu})|wurde|kann|trägt|fährt) ?.+$`,
      "iu",
    ),
    (_, { text }) => ({ text: quotedFact(text) }),
  ],
  [
    /^meine? (?<what>lieblings\p{L}+|muttersprache|beruf|hobbys?|hobby|adresse|telefonnummer|e-?mail(?:-?adresse)?|staatsangehörigkeit|religion|sternzeichen|schuhgröße|zeitzone) (?:ist|sind|lautet) (?<rest>.+)$/iu,
    ({ what, rest }, { text }) => {
      const words = what!.toLowerCase();
      const favorite = words.startsWith("lieblings");
      if (isOfTheMoment(rest!) || /^(?:nicht|falsch|unbekannt|egal|weg)\b/i.test(rest!)) return null;
      return {
        text: quotedFact(text),
        kind: favorite ? "preference" : "fact",
        slot: slotOf(favorite ? `favorite ${words.slice(9)}` : (attributeSlots[words] ?? "")),
      };
    },
  ],
];

const attributeSlots: Record<string, string> = {
  muttersprache: "native language",
  beruf: "profession",
  adresse: "address",
  telefonnummer: "phone number",
  email: "email",
  "e-mail": "email",
  emailadresse: "email",
  "e-mail-adresse": "email",
  staatsangehörigkeit: "nationality",
  religion: "religion",
  zeitzone: "time zone",
};
