/** What is measured: a way to search, over documents and over the messages of one user. */
import type { Message, Range, SourceDocument } from "./corpus.ts";

export interface MessageHit {
  message: string;
}

export interface Retriever<Source, Hit> {
  /** Takes in all that will be searched. Called once, before any search. */
  index(sources: readonly Source[]): void | Promise<void>;
  /**
   * The best results first, `k` at most. None is the right answer where nothing relevant is there: a list holds only
   * what the system would cite.
   */
  search(question: string, k: number): readonly Hit[] | Promise<readonly Hit[]>;
  close(): void | Promise<void>;
}

export type DocumentRetriever = Retriever<SourceDocument, Range>;
export type MessageRetriever = Retriever<Message, MessageHit>;

export interface System {
  name: string;
  /** A new retriever, empty. */
  documents(): DocumentRetriever | Promise<DocumentRetriever>;
  /** A new retriever, empty, which is given the messages of one user alone. */
  messages(): MessageRetriever | Promise<MessageRetriever>;
}
