/**
 * Vectors as they are stored. A cosine doesn't ask how long a vector is, so 8-bit integers in proportion give it to a
 * thousandth. On which side of the center a vector lies, a bit for each dimension, is enough to tell which vectors are
 * worth that (binary quantisation with rescoring).
 */
import type { NewVector, QuestionVector, VectorSpace } from "../vector-store.ts";

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

/** A vector on its way to a worker, in base64: in JSON, numbers would take ten times the room. */
interface PackedValues {
  vector: string;
  code: string;
}

const packed = (values: Float32Array, { center }: VectorSpace): PackedValues => ({
  vector: Buffer.from(quantized(values).buffer).toString("base64"),
  code: Buffer.from(codeOf(values, center)).toString("base64"),
});

export const unpacked = ({ vector, code }: PackedValues) => ({
  vector: new Uint8Array(Buffer.from(vector, "base64")),
  code: new Uint8Array(Buffer.from(code, "base64")),
});

/** What tells spaces apart. */
export type SpaceKey = Pick<VectorSpace, "model" | "dimensions">;

export const keyOf = ({ model, dimensions }: VectorSpace): SpaceKey => ({ model, dimensions });

export interface PackedQuestion extends SpaceKey, PackedValues, Pick<QuestionVector, "unrelated"> {}

export const packedQuestion = (question: QuestionVector): PackedQuestion => ({
  ...keyOf(question),
  ...packed(question.values, question),
  unrelated: question.unrelated,
});

export type Packed<Query extends { vector: QuestionVector | null }> = Omit<Query, "vector"> & {
  vector: PackedQuestion | null;
};

export const packedQuery = <Query extends { vector: QuestionVector | null }>(
  query: Query,
): Packed<Query> => ({ ...query, vector: query.vector && packedQuestion(query.vector) });

export interface PackedVector extends Omit<NewVector, "values"> {
  values: PackedValues | null;
}

export const packedVector =
  (space: VectorSpace) =>
  ({ values, ...text }: NewVector): PackedVector => ({ ...text, values: values && packed(values, space) });
