/** Random replies as models send them, and random clients that read them over connections which are cut. */
import fc from "fast-check";

/** Text as a model might send it: of any UTF-16 units, whole pairs, halves of pairs and NUL among them. */
const anyText = fc
  .array(
    fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...'ab "\\\n\ré漢\u2028') },
      { weight: 5, arbitrary: fc.constantFrom("😀", "👩‍🚀", "e\u0301") },
      { weight: 2, arbitrary: fc.constantFrom("\ud83d", "\ude00", "\0") },
      { weight: 2, arbitrary: fc.nat(0xffff).map((unit) => String.fromCharCode(unit)) },
    ),
    { maxLength: 60 },
  )
  .map((units) => units.join(""));

/** The pieces in which it comes, cut anywhere, within pairs too, and the pause after each. */
export const anyReply = fc
  .tuple(anyText, fc.array(fc.record({ part: fc.nat(999), waitMs: fc.nat(4) }), { maxLength: 15 }))
  .map(([text, cuts]) => {
    const places = cuts
      .map(({ part, waitMs }) => ({ at: Math.floor((part / 1_000) * text.length), waitMs }))
      .toSorted((one, other) => one.at - other.at);
    const edges = [...places, { at: text.length, waitMs: 0 }];
    return edges.map(({ at, waitMs }, index) => ({
      text: text.slice(edges[index - 1]?.at ?? 0, at),
      waitMs,
    }));
  });

/** A connection that is cut, and how many units of what it brought the client loses before it comes back. */
const anyVisit = fc.record({
  bytesMax: fc.nat(2_500),
  silenceMsMax: fc.nat(15),
  reset: fc.boolean(),
  forgets: fc.nat(6),
});

/** Who comes when so many pieces are out, and what becomes of each connection but the last. */
export const anyClients = fc.array(
  fc.record({ comesAt: fc.nat(15), visits: fc.array(anyVisit, { maxLength: 6 }) }),
  { minLength: 1, maxLength: 4 },
);

/** What Parley makes of a text: NUL and halves of pairs become U+FFFD. */
export const kept = (text: string): string => text.toWellFormed().replaceAll("\0", "\ufffd");
