/** What the user wants from now on, and what they ask to be remembered, in English and German. */
import type { Pattern } from "./wording.ts";

const englishRequests =
  "answer|reply|respond|write|use|call|address|speak|talk|give|show|add|include|explain|format|keep|be|send|end|start|begin|ask|tell|mention|say|translate|sign|cite|quote|avoid|recommend|suggest|assume|treat|spell|convert|put|make";

const instruction: Pattern[1] = (_, { text }) => ({
  text: `The user asked: “${text}.”`,
  kind: "instruction",
});

/** How the user wants things done, from now on. */
const englishInstructions: readonly Pattern[] = [
  [new RegExp(`^(?:please )?(?:always|never)(?: please)? (?:${englishRequests})\\b .+$`, "i"), instruction],
  [
    new RegExp(
      `^(?:please )?(?:from now on|in (?:the )?future|going forward)[,:]? (?:please )?(?:(?:always|never|don't|do not) )?(?:${englishRequests})\\b .+$`,
      "i",
    ),
    instruction,
  ],
  [
    new RegExp(
      `^(?:please )?(?:(?:don't|do not) )?(?:${englishRequests})\\b .+ (?:from now on|in (?:the )?future|going forward|whenever .+|every time .+)$`,
      "i",
    ),
    instruction,
  ],
  [
    /^(?:please )?(?:don't|do not|stop) (?:ever )?(?:call|calling|use|using|address|addressing) (?:me|emojis?|emoticons|exclamation marks|bullet points|jargon)\b.*$/i,
    instruction,
  ],
  [/^i (?:always |really )?(?:want|need) you to (?:always|never) .+$/i, instruction],
];

/** What somebody may do in a service isn't for them to say. */
const claimsRights = /\b(?:admin\w*|moderator|root|superuser|permissions?|authori[sz]ed|allowed)\b/i;
const notToKeep =
  /^(?:me|when|what|how|who|where|why|which|if|to|the (?:time|days)|our|us|this|it|these|those|all|everything|your?|(?:i|we) (?:said|told|asked|mentioned|just))\b/i;

/** What the user asks to be remembered. The last resort: what it holds may be a fact by itself. */
const rememberEnglish =
  /^(?:(?:can|could|will|would) you )?(?:please )?(?:remember|keep in mind|bear in mind|don't forget|do not forget|make a note|memori[sz]e)(?: for me)?(?: that|:|,| the following:?)? (?<rest>.+)$/i;

const germanRequests =
  "antworten?|antworte|schreib\\w*|verwend\\w*|benutz\\w*|nutz\\w*|sprich|sprechen|erklär\\w*|nenn\\w*|gib|geben|zeig\\w*|formulier\\w*|halt\\w*|sag\\w*|red\\w*|frag\\w*|duz\\w*|siez\\w*|mach\\w*|fass\\w*";

const germanInstructions: readonly Pattern[] = [
  [
    new RegExp(
      `^(?:bitte )?(?:${germanRequests})(?: mir| mich| bitte)* (?:immer|nie|niemals|stets|ab jetzt|ab sofort|künftig|in zukunft|von nun an)\\b.*$`,
      "i",
    ),
    instruction,
  ],
  [
    new RegExp(
      `^(?:bitte )?(?:${germanRequests})\\b.+ (?:ab jetzt|ab sofort|künftig|in zukunft|von nun an)\\b.*$`,
      "i",
    ),
    instruction,
  ],
  [
    /^(?:bitte )?(?:immer|nie|niemals|ab jetzt|ab sofort|künftig|in zukunft|von nun an) .+(?:en|e|st|t)$/i,
    instruction,
  ],
  [/^(?:bitte )?(?:duze|duz|sieze|siez) mich\b.*$/i, instruction],
];

const rememberGerman =
  /^(?:(?:kannst|könntest) du (?:dir )?)?(?:bitte )?(?:merk(?:e)? dir|denk daran|denk dran|vergiss nicht|behalte|notiere dir)(?: bitte)?(?:,? dass|:|,)? (?<rest>.+)$/i;

export const instructions: readonly Pattern[] = [...englishInstructions, ...germanInstructions];

/** What a statement asks to be remembered; null where it asks for nothing that can be kept. */
export function toRemember(statement: string): string | null {
  const rest = (rememberEnglish.exec(statement) ?? rememberGerman.exec(statement))?.groups?.rest;
  return rest === undefined || notToKeep.test(rest) || claimsRights.test(rest) ? null : rest;
}
