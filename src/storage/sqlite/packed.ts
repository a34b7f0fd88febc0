/** Vectors on their way to a worker, in base64: in JSON, numbers would take ten times the room. */
import { codeOf, keyOf, quantized, type SpaceKey } from "../quantize.ts";
import type { NewVector, QuestionVector, VectorSpace } from "../vector-store.ts";

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
