/**
 * What of a message the user states in their own words: no code, no quotation, no question, nothing merely supposed,
 * and no text that they want to have worked on. Only what is plain passes: a fact that is missed costs less than one
 * that isn't true.
 */

/** Longer messages are mostly pasted, and who says something about themselves says it first. */
const readCharsMax = 4_000;
/** A fact is short. */
const statementCharsMax = 240;
const statementsMax = 40;
/** Words in quotation marks that may be a name. */
const quotedNameWordsMax = 3;

/** A clause of a sentence, without the words that lead into it. */
export interface Statement {
  /** On one line, without the sentence's end; apostrophes are straight. */
  text: string;
  /** A greeting stood before it. */
  greeted: boolean;
  /** It was a question: "can you remember that …?". */
  asked: boolean;
  /** Nothing in its sentence is merely supposed. What a user wants to be done may hang on an "if". */
  certain: boolean;
}

/** Stands where something was left out: a sentence that has it doesn't say all that it seems to. */
const gap = "\ufffc";

const fenced = /```[\s\S]*?(?:```|$)|~~~[\s\S]*?(?:~~~|$)/g;
const inlineCode = /`[^`\n]*`/g;
const quotation = /["“„«]([^"“”„«»]*)["”“»]/g;
const notProse = /^(?:>|\||\s{4}|\t)/;
const listMark = /^\s*(?:[-*•]|\d{1,3}[.)])\s+/;

const sentenceEnd = /[.!?…]+(?=\s|$)|[。！？]/g;
const abbreviation =
  /(?:^|[\s(.])(?:\p{L}|dr|mr|mrs|ms|prof|st|sr|jr|no|nr|vs|ca|approx|inc|ltd|corp|str|bzw|usw|geb|inkl)$/iu;
const monthNext = /^\s(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)/i;

/** What follows is material, not speech of the user's own. */
const worksOnText =
  /^(?:please |can you |could you |bitte |kannst du |könntest du )*(?:translate|summari[sz]e|proof-?read|rewrite|rephrase|paraphrase|reword|correct|edit|shorten|improve|polish|fix|review|analy[sz]e|classify|extract|explain|continue|complete|reply to|respond to|pretend|imagine|act as|role-?play|übersetz|fass|korrigier|formulier|verbesser|kürz|analysier|erklär|beantwort|stell dir vor)/i;
/** The same where a colon announces it: "Here is the letter:". */
const announcesText =
  /\b(?:text|letters?|e-?mails?|articles?|documents?|paragraphs?|story|stories|poems?|lyrics|song|code|logs?|essay|chapter|post|transcript|quote|says?|said|wrote|writes?|brief|artikel|dokument|absatz|geschichte|gedicht|lied|schrieb|sagte|sagt)\b/i;
const supposed =
  /\b(?:if|unless|suppose|supposing|imagine|pretend|assum(?:e|ing)|hypothetically|would|could|might|wish|wenn|falls|angenommen|würden?|hätten?|wären?|könnten?|möchte)\b|\bin (?:my|the|this|that|a|your) (?:novel|story|book|game|dream|film|movie|poem|song)\b(?! industry| business)/i;
const reported =
  /\b(?:says?|said|tells?|told|writes?|wrote|asks?|asked|claims?|claimed|sagt|sagte|schreibt|schrieb|fragt|fragte|meint|meinte)\b[^,;]*$/i;

const greeting =
  /^(?:hi|hello|hey|hiya|good (?:morning|evening|afternoon)|greetings|hallo|guten (?:tag|morgen|abend)|moin|servus|hoi|grüezi)(?: (?:there|everyone|all|again|zusammen|parley))?(?:[,!.]? +|$)/i;
const leadIn =
  /^(?:well|so|ok|okay|yes|yeah|yep|no|nope|oh|ah|btw|by the way|actually|also|fyi|just so you know|for the record|as you know|to be honest|honestly|sure|thanks|thank you|and|but|übrigens|ja|nein|eigentlich|danke|und|aber|nur damit du es weißt)[,!.:]? +/i;
const leadInsMax = 4;

const subject =
  "(?:i|i'm|i've|we|we're|we've|my|our|please|call me|remember|never|always|ich|wir|mein|meine|unser|unsere|bitte|nenn)";
const clauseStart = new RegExp(
  `(?:[,;]| [-–—]) ?(?:(?:and|but|so|also|und|aber|also) )?(?=${subject} )| (?:and|but|und|aber) (?=${subject} )`,
  "i",
);

/** The statements of a message, in order. Its cost is bounded, whatever is in the message. */
export function statementsIn(message: string): Statement[] {
  const text = beginningOf(message)
    .replace(/[’‘]/g, "'")
    .replace(fenced, gap)
    .replace(inlineCode, gap)
    .replace(quotation, (_, quoted: string) =>
      quoted.trim().split(/\s+/).length <= quotedNameWordsMax
        ? quoted
        : gap + (/[.!?…]\s*$/.exec(quoted)?.[0] ?? ""),
    );
  const statements: Statement[] = [];
  let greeted = false;
  for (const line of text.split("\n")) {
    if (notProse.test(line)) continue;
    for (const sentence of sentencesIn(line.replace(listMark, ""))) {
      if (
        worksOnText.test(sentence.text) ||
        (sentence.text.endsWith(":") && announcesText.test(sentence.text))
      )
        return statements;
      const found = clausesOf(sentence.text, greeted);
      greeted = found.length === 1 && found[0]!.text === "" && found[0]!.greeted;
      const rest = { asked: sentence.asked, certain: !supposed.test(sentence.text) };
      for (const clause of found) {
        if (clause.text === "" || clause.text.length > statementCharsMax) continue;
        statements.push({ ...clause, ...rest });
        if (statements.length === statementsMax) return statements;
      }
    }
  }
  return statements;
}

/** As much as is read, without the sentence that this would cut. */
function beginningOf(message: string): string {
  if (message.length <= readCharsMax) return message;
  const read = message.slice(0, readCharsMax);
  return read.slice(0, read.search(/[.!?…。！？\n][^.!?…。！？\n]*$/) + 1);
}

function sentencesIn(line: string): { text: string; asked: boolean }[] {
  const prose = line.replace(/\s+/g, " ").trim();
  const sentences: { text: string; asked: boolean }[] = [];
  let start = 0;
  const add = (end: number, mark: string): void => {
    const text = prose.slice(start, end).trim();
    if (text !== "" && !text.includes(gap)) sentences.push({ text, asked: /[?？]/.test(mark) });
  };
  for (const { 0: mark, index } of prose.matchAll(sentenceEnd)) {
    const before = prose.slice(Math.max(start, index - 12), index);
    const after = index + mark.length;
    if (mark === "." && (abbreviation.test(before) || isDayOfMonth(before, prose.slice(after, after + 5))))
      continue;
    add(index, mark);
    start = after;
  }
  add(prose.length, "");
  return sentences;
}

/** The full stop of a German date: "am 3. Mai". */
const isDayOfMonth = (before: string, after: string): boolean =>
  /(?:^|\D)\d{1,2}$/.test(before) && monthNext.test(after);

function clausesOf(sentence: string, greetedBefore: boolean): Pick<Statement, "text" | "greeted">[] {
  const clauses: Pick<Statement, "text" | "greeted">[] = [];
  let greeted = greetedBefore;
  for (const part of sentence.split(clauseStart)) {
    let text = part.trim();
    for (let step = 0; step < leadInsMax; step++) {
      const said = greeting.exec(text);
      greeted ||= said !== null;
      const lead = said ?? leadIn.exec(text);
      if (lead === null) break;
      text = text.slice(lead[0].length);
    }
    clauses.push({ text, greeted });
    // What others say isn't said by the user: "She says, I am a nurse".
    if (reported.test(text)) break;
    greeted &&= text === "";
  }
  return clauses;
}
