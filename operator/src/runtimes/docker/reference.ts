// Names of images.
import { Failure } from '@atoll/protocol'

const domain = String.raw`(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[1-9]\d{0,4})?`
const pathPart = String.raw`[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
const named = new RegExp(
  `^(?<repository>(?:${domain}/)?${pathPart}(?:/${pathPart})*)(?::(?<tag>\\w[\\w.-]{0,127}))?(?:@(?<digest>sha256:[0-9a-f]{64}))?$`,
)
const imageId = /^(?:sha256:)?[0-9a-f]{64}$/

export interface ImageReference {
  /** As the engine is asked for it; never without a tag or digest, which would mean every tag. */
  readonly name: string
  /** False for an id, which no registry knows. */
  readonly canBePulled: boolean
}

/** @throws Failure `image.not_found` for what cannot name an image */
export function parseReference(text: string): ImageReference {
  if (imageId.test(text)) return { name: text.startsWith('sha256:') ? text : `sha256:${text}`, canBePulled: false }
  const parts = text.length <= 512 ? named.exec(text)?.groups : undefined
  if (!parts?.['repository']) {
    const shown = JSON.stringify(text.slice(0, 100))
    throw new Failure('image.not_found', `${shown} is not the name of an image. Write it as [registry/]name[:tag][@sha256:digest].`)
  }
  const { repository, tag, digest } = parts
  // A digest alone decides; the engine refuses a pull by both.
  return { name: digest ? `${repository}@${digest}` : `${repository}:${tag ?? 'latest'}`, canBePulled: true }
}

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** Whether a full name is one of the patterns, in which `*` stands for any characters. A pattern without a tag means every tag of the name. */
export function isAllowed(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const body = pattern.split('*').map(escaped).join('.*')
    return new RegExp(`^${body}(?::[\\w.-]+|@sha256:[0-9a-f]{64})?$`).test(name)
  })
}
