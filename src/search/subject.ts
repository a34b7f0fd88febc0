/** About whom a question is: the user, or somebody in their life. */
import { relationOf, relationsIn } from "./relations.ts";
import { stemOf, termsOf } from "./terms.ts";
import { cutWords } from "./words.ts";

/** What everybody has: a text that shares nothing else with a question may be about somebody else. */
const attributes = new Set("name birthday born age old live job work".split(" ").map(stemOf));

/**
 * Whether what is known of a user, or was said by them, can be about the same person as their question: when their
 * birthday is doesn't tell when their sister's is, and how their dog is called doesn't tell their own name.
 */
export function aboutTheSame(question: string): (text: string) => boolean {
  const asked = relationOf(question);
  const mentioned = relationsIn(question);
  const terms = termsOf(cutWords(question));
  return (text) => {
    if (asked !== null) return relationsIn(text).has(asked);
    const subject = relationOf(text);
    if (subject === null || mentioned.has(subject)) return true;
    const words = cutWords(text).split(" ");
    const held = new Set([...words, ...words.map(stemOf)]);
    const shared = terms.filter(({ word, stem }) => held.has(word) || held.has(stem));
    return shared.length === 0 || shared.some(({ stem }) => !attributes.has(stem));
  };
}
