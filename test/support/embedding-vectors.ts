/**
 * Vectors that mean a little without any model: a stand-in for an embedding model, so that what is done with vectors
 * can be tested, and measured, without one. It knows word stems, spelling (character n-grams) and the few synonyms
 * below. It knows nothing of word order, negation or anything else that a sentence means: figures that were got with
 * it say that the path works, and not how good it is with a real model.
 *
 * A text is a bag of weighted features, each of which adds +1 or -1 to a few coordinates that its hash chooses: a
 * very sparse random projection (Li, Hastie, Church, "Very Sparse Random Projections", KDD 2006).
 */

/** As many as small real models have: with 256, passages of some hundred words drown in the projection's noise. */
export const vectorDimensions = 1024;

/** Coordinates that a feature touches: the square root of the dimensions, as in the paper. */
const coordinates = 32;

const weights = { word: 1, synonym: 1, commonWord: 0.1, spelling: 0.5, character: 0.3, pair: 1 };

const commonWords = new Set(
  `a an the and or but if of in on at to for from by with about as into is are was were be been am do does did have
  has had will would can could should may might must not no i me my we us our you your he she it its they them their
  this that these those there here what which who whom whose when where why how so than then too very just
  der die das ein eine und oder in im an am zu mit von für auf ist sind war ich du er sie es wir ihr mein nicht was
  wann wo wer wie le la les un une des et ou de du en à au je tu il elle nous vous mon ma est sont pas que qui
  el los las una y o del al yo mi es son no qué cuándo dónde cómo`.split(/\s+/),
);

/** Words for the same thing, in everyday English with some of its neighbours'. */
const synonyms = `
  buy purchase acquire order kaufen acheter comprar
  sell sold vendre verkaufen vender
  price cost fee charge rate preis kosten prix coût precio
  pay paid payment salary wage bezahlen payer pagar
  money cash budget geld argent dinero
  cheap inexpensive affordable billig
  begin start commence launch anfangen commencer empezar
  end finish stop expire terminate ende fin
  delete remove erase discard drop löschen supprimer borrar
  install setup deploy
  repair fix mend reparieren réparer reparar
  broken faulty defective damaged kaputt
  error fault failure problem bug fehler
  fast quick rapid speedy swift schnell
  slow sluggish langsam
  big large huge maximum biggest largest groß grand grande
  small little tiny minimum smallest klein petit pequeño
  holiday vacation leave urlaub vacances vacaciones
  trip journey travel tour reise voyage viaje
  ill sick disease krank malade enfermo
  doctor physician arzt ärztin médecin médico
  medicine medication drug pill tablet medikament
  car vehicle auto automobile voiture coche
  bicycle bike cycle fahrrad vélo bici
  boat ship ferry vessel boot bateau barco
  plane flight airplane aircraft flug avion
  house home flat apartment wohnung maison casa
  room chamber zimmer chambre
  child kid children kind enfant niño
  father dad papa vater père padre
  mother mum mom mutter mère madre
  daughter girl tochter fille hija
  son boy sohn fils hijo
  wife husband spouse partner
  dog puppy hund chien perro
  cat kitten katze chat gato
  food meal dish eat essen repas comida
  drink beverage trinken boire beber
  cook bake recipe kochen cuisiner cocinar
  work job employment post arbeit travail trabajo
  company firm employer firma entreprise empresa
  boss manager supervisor chef
  phone telephone mobile cellphone handy
  laptop computer notebook rechner ordinateur
  picture photo image photograph bild
  file document record datei
  password passphrase passwort
  login signin authentication
  key schlüssel clé llave
  school class lesson course kurs cours
  teacher instructor trainer coach lehrer
  exam test assessment prüfung examen
  book novel buch livre libro
  music song concert musik
  town city village stadt ville ciudad
  street road path weg rue calle
  warm hot heat heiß chaud caliente
  cold chilly frost kalt froid frío
  open opening hours öffnen ouvert abierto
  allow permit permission forbid forbidden prohibited erlaubt verboten
  quiet silent silence noise ruhe silencieux
  birthday anniversary geburtstag anniversaire cumpleaños
  wedding marry married marriage hochzeit
  die died death dead gestorben
  move moved relocate umziehen déménager
  name called titled heißt
  date day deadline due datum`
  .trim()
  .split("\n")
  .map((line) => line.trim().split(/\s+/));

const suffixes =
  `ations ation ingly ings ing edly ness ments ment ies ied iest ier ers er est ed es en ungen ung e s ly`.split(
    " ",
  );

/** The word without its ending, as far as a list of endings gets. */
function stemOf(word: string): string {
  const suffix = suffixes.find((suffix) => word.endsWith(suffix) && word.length - suffix.length >= 3);
  const stem = suffix === undefined ? word : word.slice(0, -suffix.length);
  // "planning" and "plan"; "happy" and "happiness"
  return stem.replace(/([^aeiouls])\1$/, "$1").replace(/y$/, "i");
}

const groupOfStem = new Map(
  synonyms.flatMap((words, group) => words.map((word) => [stemOf(plain(word)), group] as const)),
);

/** Lower case, without accents. */
function plain(text: string): string {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

const withoutSpaces = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

function featuresOf(text: string): Map<string, number> {
  const features = new Map<string, number>();
  const add = (feature: string, weight: number): void => {
    features.set(feature, (features.get(feature) ?? 0) + weight);
  };
  for (const [run] of plain(text).matchAll(/[\p{L}\p{N}]+/gu)) {
    if (withoutSpaces.test(run)) addCharacters(run, add);
    else addWord(run, add);
  }
  // So that no text is without a direction.
  if (features.size === 0) add(`text ${text}`, 1);
  return features;
}

function addCharacters(run: string, add: (feature: string, weight: number) => void): void {
  const characters = [...run];
  for (const [index, character] of characters.entries()) {
    add(`character ${character}`, weights.character);
    if (index > 0) add(`pair ${characters[index - 1]}${character}`, weights.pair);
  }
}

function addWord(word: string, add: (feature: string, weight: number) => void): void {
  if (commonWords.has(word)) {
    add(`word ${word}`, weights.commonWord);
    return;
  }
  const stem = stemOf(word);
  add(`word ${stem}`, weights.word);
  const group = groupOfStem.get(stem);
  if (group !== undefined) add(`synonym ${group}`, weights.synonym);
  const marked = `<${word}>`;
  const grams = [3, 4, 5].flatMap((length) =>
    Array.from({ length: Math.max(0, marked.length - length + 1) }, (_, at) => marked.slice(at, at + length)),
  );
  for (const gram of grams) add(`spelling ${gram}`, weights.spelling / Math.sqrt(grams.length));
}

/**
 * The vector of a text, of length 1, the same on every machine.
 * @param dimensions fewer than 1,024 are the first of them, made length 1 again, as OpenAI's models do it
 */
export function vectorOf(text: string, dimensions = vectorDimensions): number[] {
  const vector = new Float64Array(vectorDimensions);
  for (const [feature, weight] of featuresOf(text)) {
    let state = Bun.hash.xxHash32(feature) || 1;
    // What is said often counts more, but not in proportion.
    const strength = weight > 1 ? 1 + Math.log(weight) : weight;
    for (let count = 0; count < coordinates; count += 1) {
      // Xorshift (Marsaglia 2003)
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      vector[(state >>> 1) % vectorDimensions]! += state & 1 ? strength : -strength;
    }
  }
  const shortened = vector.subarray(0, dimensions);
  const length = Math.hypot(...shortened) || 1;
  return Array.from(shortened, (value) => Math.fround(value / length));
}
