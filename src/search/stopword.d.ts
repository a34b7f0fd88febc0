/** The lists that are used of it; the package has no types. */
declare module "stopword" {
  export const deu: string[];
  export const eng: string[];
  export const fra: string[];
  export const ita: string[];
  export const jpn: string[];
  export const nld: string[];
  export const por: string[];
  export const spa: string[];
  export const zho: string[];
}
