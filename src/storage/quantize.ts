/**
 * Vectors as they are stored. A cosine doesn't ask how long a vector is, so 8-bit integers in proportion give it to a
 * thousandth. On which side of the center a vector lies, a bit for each dimension, is enough to tell which vectors are
 * worth that (binary quantisation with rescoring).
 */
import type { VectorSpace } from "./vector-store.ts";

/** Each value as a part of the largest, -127 to 127. */
export function quantized(values: Float32Array): Int8Array {
  const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return Int8Array.from(values, (value) => Math.round((value / largest) * 127));
}

/** A bit for each value: whether it is greater than that of the center. */
export function codeOf(values: Float32Array, center: Float32Array): Uint8Array {
  const code = new Uint8Array(Math.ceil(values.length / 8));
  values.forEach((value, index) => {
    if (value > center[index]!) code[index >> 3]! |= 1 << (index & 7);
  });
  return code;
}

/** The cosine of two vectors of 8-bit integers. */
export function cosineOf(one: Int8Array, other: Int8Array): number {
  let product = 0;
  let ones = 0;
  let others = 0;
  for (let index = 0; index < one.length; index++) {
    const a = one[index]!;
    const b = other[index]!;
    product += a * b;
    ones += a * a;
    others += b * b;
  }
  return product / Math.sqrt(ones * others);
}

/** What tells spaces apart. */
export type SpaceKey = Pick<VectorSpace, "model" | "dimensions">;

export const keyOf = ({ model, dimensions }: VectorSpace): SpaceKey => ({ model, dimensions });
