/** What a message is where there is nothing in it to look up, or nothing but that it asks. English, German and more. */
import { cutWords } from "../search/words.ts";

const wordsOf = (list: string): ReadonlySet<string> => new Set(list.split(" ").map(cutWords));

const greetings = wordsOf(
  "hello hi hey hiya greetings good morning afternoon evening there everyone again hallo guten tag morgen abend moin servus grüezi zusammen bonjour bonsoir salut hola buenos buenas días tardes noches ciao buongiorno olá 你好 您好 こんにちは",
);
const thanks = wordsOf("thank thanks thx cheers danke dank merci gracias grazie obrigado 谢谢 ありがとう");
const aroundThanks = wordsOf(
  "you very so too much a lot many for your the help that this was is it all really great good perfect helpful nice ok okay bye goodbye dir ihnen vielen schön sehr herzlichen das war s alles super tschüss beaucoup bien muchas mille ございます",
);
const consent = wordsOf("ok okay great perfect alright fine cool super klar alles gut passt prima vale bien");
const aboutItself =
  /^(?:(?:and|so|und),? )?(?:(?:who|what) are you|how are you(?: today| doing)?|what can you do(?: for me)?|(?:can|could) you help(?: me)?|help(?: me)?|wer bist du|was bist du|was kannst du(?: für mich tun)?|wie geht(?:'s| es)(?: dir)?|kannst du mir helfen|hilfe)\W*$/i;

interface SmallTalk {
  reply: string;
  /** Whether what this model can do is to be told. */
  asks: boolean;
}

/** What is replied to a greeting, to thanks and the like; null for all that says more. */
export function smallTalk(message: string): SmallTalk | null {
  const whole = smallTalkIn(message);
  const parts = message.split(/[.,!?;…]+/).filter((part) => part.trim() !== "");
  if (whole !== null || parts.length < 2) return whole;
  const all = parts.map(smallTalkIn);
  if (all.includes(null)) return null;
  return { reply: all[0]!.reply, asks: all.some((part) => part!.asks) };
}

function smallTalkIn(message: string): SmallTalk | null {
  const words = cutWords(message).split(" ");
  const areAll = (...lists: ReadonlySet<string>[]): boolean =>
    words.every((word) => lists.some((list) => list.has(word)));
  if (areAll(greetings)) return { reply: "Hello! ", asks: true };
  if (words.some((word) => thanks.has(word)) && areAll(thanks, aroundThanks))
    return { reply: "You're welcome.", asks: false };
  if (areAll(consent)) return { reply: "All right.", asks: false };
  return aboutItself.test(message.trim()) ? { reply: "", asks: true } : null;
}

const asksForAll =
  /^(?:(?:so|and|please|ok|und|bitte),? )?(?:who am i|what (?:do|can) you (?:know|remember|tell me) about me|what have you (?:learned|remembered) about me|do you (?:know|remember) (?:me|anything about me)|tell me (?:what you know )?about (?:me|myself)|wer bin ich|was weißt du (?:alles )?(?:über mich|von mir)|kennst du mich|erinnerst du dich an mich)\W*$/i;
const asksForTaste =
  /^(?:and )?what (?:else )?do i (?<verb>like|love|enjoy|prefer|hate|dislike)\W*$|^was (?<tut>mag|liebe|hasse|bevorzuge) ich(?: gerne?)?\W*$/i;

/** Which of what is known about the user a message asks for, where it names nothing to look for; null where it does. */
export function knownThatIsAsked(message: string): ((text: string) => boolean) | null {
  const asked = message.trim().replace(/\s+/g, " ");
  if (asksForAll.test(asked)) return () => true;
  const { verb, tut } = asksForTaste.exec(asked)?.groups ?? {};
  const wanted = verb ?? tut;
  return wanted === undefined ? null : (text) => new RegExp(`\\b${wanted}s?\\b`, "i").test(text);
}

const requesting =
  /^(?:please |can you |could you |bitte )?(?:tell|show|explain|summari[sz]e|list|give|find|search|look up|translate|describe|compare|zeig\w*|erklär\w*|fass\w*|nenn\w*|such\w*|finde|übersetz\w*|beschreib\w*)(?= )/iu;
const interrogative =
  /^(?:(?:so|and|but|ok|und|aber|also|et|y),? )?(?:who|what|when|where|why|which|how|whose|whom|what's|who's|where's|when's|wer|was|wann|wo|warum|wieso|weshalb|wie|welche\w*|wessen|wem|wen|wohin|woher|wo\p{L}+|qui|quand|comment|pourquoi|combien|quel\w*|qué|quién\w*|cuándo|dónde|cómo|cuál\w*|cuánt\w*)(?= |$)/iu;
/** "When I was eight, …" tells something. */
const askingWordsMax = 15;

/** Whether a message only asks, so that quoting it would answer nobody. */
export function onlyAsks(message: string): boolean {
  const sentences = message.match(/[^.!?。！？\n]+[.!?。！？]*/g)?.map((sentence) => sentence.trim()) ?? [];
  return sentences
    .filter((sentence) => /[\p{L}\p{N}]/u.test(sentence))
    .every(
      (sentence) =>
        /[?？]$/.test(sentence) ||
        requesting.test(sentence) ||
        (interrogative.test(sentence) &&
          !sentence.includes(",") &&
          sentence.split(" ").length <= askingWordsMax) ||
        smallTalk(sentence) !== null,
    );
}

/** Whether a message is about what was asked before. */
export const asksForQuestions = (message: string): boolean =>
  /\b(?:did|have|had) (?:i|we) (?:\w+ )?ask(?:ed)?\b|\bi asked\b|\bich\b.*\bgefragt\b/i.test(message);
