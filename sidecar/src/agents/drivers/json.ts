// Looking into what a program said, without trusting its shape.
export type Json = Readonly<Record<string, unknown>>

export const record = (value: unknown): Json => (typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {})

export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

export const text = (value: unknown): string => (typeof value === 'string' ? value : '')

export const maybeText = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)

export const count = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) ? value : 0)

export const maybeNumber = (value: unknown): number | undefined => (typeof value === 'number' && Number.isFinite(value) ? value : undefined)
