// What models cost, as the operator's owner says. Without a word of theirs nothing is known: providers change prices as they like.
import { readFileSync } from 'node:fs'
import { Failure } from '@atoll/protocol'
import { z } from 'zod'
import { fitsName } from './patterns.ts'
import type { Usage } from './usage-reader.ts'

const amount = z.number().min(0).max(1_000_000)
/** US dollars for a million tokens. */
const Price = z.strictObject({ input: amount, output: amount, cached: amount.optional() })
type Price = z.infer<typeof Price>
const PriceList = z.record(z.string().regex(/^[^/\s]+\/\S+$/, 'a name is provider/model, with * for anything'), Price)

export interface Prices {
  /** US dollars; undefined when the model has no price and the provider said none. */
  costOf(provider: string, usage: Usage): number | undefined
  has(provider: string, model: string): boolean
}

/**
 * Reads `{"provider/model": {"input": 3, "output": 15, "cached": 0.3}}`; the first name that fits counts.
 * @throws Failure `config.invalid`
 */
export function readPrices(file: string | undefined): Prices {
  const list = file === undefined ? [] : entriesOf(file)
  const find = (provider: string, model: string): Price | undefined =>
    list.find(({ pattern }) => fitsName(pattern, `${provider}/${model}`))?.price
  return {
    has: (provider, model) => find(provider, model) !== undefined,
    costOf: (provider, { model, input, output, cached, cost }) => {
      if (cost !== undefined) return cost
      const price = find(provider, model)
      return price && (input * price.input + output * price.output + cached * (price.cached ?? price.input)) / 1_000_000
    },
  }
}

function entriesOf(file: string): { pattern: string; price: Price }[] {
  const refuse = (why: string, cause?: unknown): never => {
    throw new Failure('config.invalid', `The price list ${file} (ATOLL_PRICES_FILE) ${why}`, { cause })
  }
  let content: unknown
  try {
    content = JSON.parse(readFileSync(file, 'utf8'))
  } catch (cause) {
    return refuse('cannot be read as JSON.', cause)
  }
  const parsed = PriceList.safeParse(content)
  if (!parsed.success) return refuse(`does not fit: ${parsed.error.issues[0]?.path.join('.')}: ${parsed.error.issues[0]?.message}`)
  return Object.entries(parsed.data).map(([pattern, price]) => ({ pattern, price }))
}
