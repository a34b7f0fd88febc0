/** Which words of a question are looked for. */
import { expect, test } from "bun:test";
import { termsOf } from "../../src/search/terms.ts";
import { cutWords } from "../../src/search/words.ts";

const termsIn = (question: string): string[] => termsOf(cutWords(question)).map(({ word }) => word);

test.each([
  // Each of these is a small word somewhere: car, son, sea, due and die in French, Spanish, Italian and German.
  ["What car do we drive?", ["car", "drive"]],
  ["What is my son allergic to?", ["son", "allergic"]],
  ["When is the deadline due?", ["deadline", "due"]],
  ["Did the fish die in the sea?", ["fish", "die", "sea"]],
  ["Who is Mia?", ["mia"]],
  ["What's Mia's boat?", ["mia", "boat"]],
  ["Qu'est-ce que l'abonnement ?", ["abonnement"]],
  ["Wer ist Ella?", ["ella"]],
  ["car insurance price", ["car", "insurance", "price"]],
  ["Wie viele Urlaubstage habe ich?", ["urlaubstage"]],
  ["Combien de livres peut-on emprunter ?", ["livres", "emprunter"]],
  ["¿Cuánto cuesta el curso?", ["cuesta", "curso"]],
  ["绿茶应该怎么保存", ["绿茶", "保存"]],
  ["猫の名前は何ですか", ["猫", "名前"]],
])("of %j the small words of its own language are left out", (question, terms) => {
  expect(termsIn(question)).toEqual(terms);
});

test.each(["who is who", "Hello!", "Vielen Dank, das war es.", "¿Qué es?", "これは何ですか"])(
  "%j has nothing but small words, which are all kept, as such",
  (question) => {
    const terms = termsOf(cutWords(question));
    expect(terms.length).toBeGreaterThan(0);
    expect(terms.every(({ small }) => small)).toBe(true);
  },
);
