// Reading what a client sent without trusting its shape: what is not there is empty.

export type Json = Readonly<Record<string, unknown>>

export const isRecord = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)
export const record = (value: unknown): Json => (isRecord(value) ? value : {})
export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
export const records = (value: unknown): readonly Json[] => list(value).map(record)
export const text = (value: unknown): string => (typeof value === 'string' ? value : '')

/** The text of a message's content: a string, one part, or parts. */
export function contentText(content: unknown): string {
  if (typeof content === 'string') return content
  if (Array.isArray(content)) return content.map(contentText).join('\n')
  return text(record(content)['text'])
}
