/** A provider's guide with this server's own values filled in: as data for the dashboard, and as the source of its page. */
import type { Guide } from '@fairlead/contract'
import { guideSteps, troubleshooting } from '../provider/guide.ts'
import type { Hooks } from '../provider/hooks.ts'
import type { Provider } from '../provider/schema.ts'
import { checksIn, copiesIn, markdown, slug } from './markdown.ts'

const filled = (text: string, provider: Provider, hooks: Hooks, url: string): string =>
  text
    .replaceAll('{{troubleshooting}}', () => troubleshooting(provider, hooks, `${url}/oauth/callback`))
    .replaceAll('{{url}}', url)
    .replaceAll('{{callback}}', `${url}/oauth/callback`)
    .replaceAll('{{provider}}', provider.name)
    .replaceAll('{{name}}', provider.display_name)
    .replaceAll('{{scopes}}', (provider.default_scopes ?? []).map(scope => `\`${scope}\``).join(' and '))

export async function guideOf(provider: Provider, hooks: Hooks, url: string): Promise<Guide> {
  const render = await markdown()
  return {
    provider: provider.name,
    title: `Connect ${provider.display_name}`,
    callback_url: `${url}/oauth/callback`,
    app_project_url: hooks.appProject ? `${url}/providers/${provider.name}/app-project` : null,
    docs_url: `${url}/docs/providers/${provider.name}`,
    steps: guideSteps(provider).map(({ title, kind, markdown: source }) => {
      const text = filled(source, provider, hooks, url)
      return {
        id: slug(title),
        title,
        kind,
        markdown: text,
        html: render(text),
        copy: copiesIn(text),
        checks: checksIn(text),
      }
    }),
  }
}

export const guideMarkdown = ({ title, steps }: Guide): string =>
  [`# ${title}`, ...steps.map(step => `## ${step.title}\n\n${step.markdown}`)].join('\n\n')
