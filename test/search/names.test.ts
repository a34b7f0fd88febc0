/** Which names a question asks about. */
import { expect, test } from "bun:test";
import { namesIn } from "../../src/search/names.ts";

test.each([
  ["How long is the warranty of the Falcon drone?", ["falcon"]],
  ["When does the ferry from Dover to Calais leave?", ["dover", "calais"]],
  ["error E12 on the Delonghi machine", ["e12", "delonghi"]],
  ["Combien de livres peut-on emprunter à la bibliothèque de Lyon ?", ["lyon"]],
  ["¿Cuándo abre el museo de Málaga?", ["malaga"]],
  ["What did I see in Łódź?", ["łodz"]],
])("%s", (question, names) => {
  expect(namesIn(question)).toEqual(names);
});

test.each([
  ["a word that begins the question", "Falcon drone warranty"],
  ["what is typed without capitals", "how do i install nextcloud"],
  ["capitals in every word", "How To Install Nextcloud On Ubuntu"],
  ["German, which has them in every noun", "Wie lange gilt die Garantie für den Falken?"],
  ["months and days", "What happened in June, on a Tuesday?"],
  ["abbreviations", "How long is the notice period in the UK?"],
  ["figures", "How many orders failed in 2024?"],
  ["scripts without capitals", "东京塔几点开门？ Wi-Fiはどこで使えますか"],
  ["messages of several sentences", "I live in Lisbon. How do I claim expenses?"],
  ["a list after a colon", "Translate this: Good Morning Lisbon"],
  ["nothing", " "],
])("none in %s", (_, question) => {
  expect(namesIn(question)).toEqual([]);
});
