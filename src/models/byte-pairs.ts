/**
 * Byte-pair encoding, only as far as counting needs it. The vocabulary comes from `gpt-tokenizer`, whose own encoder
 * takes half a second and 95 MB to load, and is ten times too slow for random letters or Chinese.
 * Fields are `private` and not `#private`, which costs a third of the speed here.
 */

/** Bytes of a word that are merged at once. The work grows with its square; longer words are cut. */
const wordBytesMax = 64;

/** The rank of what isn't in the vocabulary. */
const none = 2 ** 31 - 1;

/** How a slot of the table is divided: room for 262,143 tokens. */
const entryMask = 0x3ffff;
const tagMask = ~entryMask;

/** A vocabulary in one open-addressed table over flat bytes: 5 MB for 200,000 tokens. */
export class BytePairs {
  private readonly bytes: Uint8Array;
  /** Where the bytes of each entry's token start; the next entry's start is its end. */
  private readonly starts: Int32Array;
  private readonly ranks: Int32Array;
  /** By hash: entry + 1 in the low bits, the hash's own high bits above; 0 is free. */
  private readonly table: Int32Array;
  private readonly mask: number;
  /** The ranks of all two-byte tokens, by their bytes: half of all lookups. */
  private readonly pairs = new Int32Array(65_536).fill(none);

  /** The parts of the word at hand: where each starts, and its rank if it were merged with the next. */
  private readonly partStarts = new Int32Array(wordBytesMax + 1);
  private readonly partRanks = new Int32Array(wordBytesMax + 1);

  /** @param file a vocabulary in tiktoken's form: lines of base64, a space, and the rank */
  constructor(file: Uint8Array) {
    const { bytes, starts, ranks } = parse(file);
    this.bytes = bytes;
    this.starts = starts;
    this.ranks = ranks;
    const size = 2 ** Math.ceil(Math.log2(ranks.length * 2 + 1));
    this.mask = size - 1;
    this.table = new Int32Array(size);
    for (let entry = 0; entry < ranks.length; entry++) {
      const start = starts[entry]!;
      const end = starts[entry + 1]!;
      if (end - start === 2) this.pairs[(bytes[start]! << 8) | bytes[start + 1]!] = ranks[entry]!;
      const key = hash(bytes, start, end);
      let slot = key & this.mask;
      while (this.table[slot] !== 0) slot = (slot + 1) & this.mask;
      this.table[slot] = (key & tagMask) | (entry + 1);
    }
  }

  /** Tokens of a word: of the first `length` bytes. Exact up to 64 bytes; a longer one is cut there. */
  count(word: Uint8Array, length: number): number {
    let tokens = 0;
    let start = 0;
    while (length - start > wordBytesMax) {
      let end = start + wordBytesMax;
      while ((word[end]! & 0xc0) === 0x80) end--; // not inside a character
      tokens += this.countShort(word, start, end);
      start = end;
    }
    return tokens + this.countShort(word, start, length);
  }

  /** Merges the pair of the lowest rank until none is left, and counts the parts. */
  private countShort(word: Uint8Array, start: number, end: number): number {
    if (this.rank(word, start, end) !== none) return 1;
    const starts = this.partStarts;
    const ranks = this.partRanks;
    let parts = end - start;
    let lowest = none;
    let at = 0;
    for (let part = 0; part < parts; part++) {
      const here = start + part;
      const rank = here + 1 < end ? this.pairs[(word[here]! << 8) | word[here + 1]!]! : none;
      starts[part] = here;
      ranks[part] = rank;
      if (rank < lowest) {
        lowest = rank;
        at = part;
      }
    }
    while (lowest !== none) {
      // One pass merges the pair, closes the gap behind it, and finds the next lowest rank.
      const merged = at;
      parts--;
      starts[parts + 1] = end;
      ranks[merged] = merged + 1 < parts ? this.rank(word, starts[merged]!, starts[merged + 3]!) : none;
      if (merged > 0) ranks[merged - 1] = this.rank(word, starts[merged - 1]!, starts[merged + 2]!);
      lowest = none;
      for (let part = 0; part < parts; part++) {
        if (part > merged) {
          starts[part] = starts[part + 1]!;
          ranks[part] = ranks[part + 1]!;
        }
        if (ranks[part]! < lowest) {
          lowest = ranks[part]!;
          at = part;
        }
      }
    }
    return parts;
  }

  private rank(word: Uint8Array, start: number, end: number): number {
    const { table, mask } = this;
    const length = end - start;
    const key = hash(word, start, end);
    for (let slot = key & mask; ; slot = (slot + 1) & mask) {
      const found = table[slot]!;
      if (found === 0) return none;
      if (((found ^ key) & tagMask) !== 0) continue;
      const entry = (found & entryMask) - 1;
      const from = this.starts[entry]!;
      if (this.starts[entry + 1]! - from !== length) continue;
      let same = 0;
      while (same < length && this.bytes[from + same] === word[start + same]) same++;
      if (same === length) return this.ranks[entry]!;
    }
  }
}

/** FNV-1a, with its high bits folded into the low ones, which choose the slot. */
function hash(bytes: Uint8Array, start: number, end: number): number {
  let value = 0x811c9dc5;
  for (let at = start; at < end; at++) value = Math.imul(value ^ bytes[at]!, 0x01000193);
  return value ^ (value >>> 15);
}

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const [space, newline, padding] = [0x20, 0x0a, 0x3d];

/** Decodes the base64 by hand: a call for each of 200,000 lines would take most of the time to load. */
function parse(file: Uint8Array): { bytes: Uint8Array; starts: Int32Array; ranks: Int32Array } {
  const sextets = new Uint8Array(128);
  for (let value = 0; value < 64; value++) sextets[base64Alphabet.charCodeAt(value)] = value;
  const bytes = new Uint8Array(file.length);
  const starts: number[] = [];
  const ranks: number[] = [];
  let written = 0;
  for (let at = 0; at < file.length; at++) {
    starts.push(written);
    let bits = 0;
    let held = 0;
    for (; file[at] !== space; at++) {
      if (file[at] === padding) continue;
      held = ((held << 6) | sextets[file[at]!]!) & 0xffff;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        bytes[written++] = held >> bits;
      }
    }
    let rank = 0;
    for (at++; at < file.length && file[at] !== newline; at++) rank = rank * 10 + (file[at]! - 0x30);
    ranks.push(rank);
  }
  starts.push(written);
  return { bytes: bytes.slice(0, written), starts: Int32Array.from(starts), ranks: Int32Array.from(ranks) };
}
