/**
 * Memories without a language model: a small set of plain patterns, English and German, on what the user states.
 * Linear, and bounded by what `statementsIn` reads, because the end of a turn waits for it.
 */
import { type Fact, factCharsMax, factsMax } from "./fact.ts";
import { englishPatterns } from "./patterns/english.ts";
import { germanPatterns } from "./patterns/german.ts";
import { instructions, toRemember } from "./patterns/requests.ts";
import { firstOf, type Pattern, toFact } from "./patterns/wording.ts";
import { type Statement, statementsIn } from "./statements.ts";

const facts: readonly Pattern[] = [...englishPatterns, ...germanPatterns];

/** The facts that a message states about its user, in order. */
export function factsIn(message: string): Fact[] {
  const found: Fact[] = [];
  for (const statement of statementsIn(message)) {
    const fact = factIn(statement);
    if (fact !== null && fact.text.length <= factCharsMax) found.push(fact);
    if (found.length === factsMax) break;
  }
  return found;
}

function factIn(statement: Statement): Fact | null {
  const kept = toRemember(statement.text);
  if (kept !== null) {
    const fact = firstOf(facts, { ...statement, text: kept });
    return fact ?? toFact({ text: `The user asked to remember: “${kept}.”` });
  }
  if (statement.asked) return null;
  return firstOf(instructions, statement) ?? (statement.certain ? firstOf(facts, statement) : null);
}
