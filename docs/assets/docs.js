// Search, copy buttons, and the folded list of pages on a narrow screen. Everything is readable without it.

for (const button of document.querySelectorAll('[data-copy]'))
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent)
    button.textContent = 'Copied'
    setTimeout(() => {
      button.textContent = 'Copy'
    }, 2000)
  })

// Open beside a page, folded above it.
const wide = matchMedia('(min-width: 861px)')
const fold = () => {
  document.querySelector('nav.pages details').open = wide.matches
}
wide.addEventListener('change', fold)
fold()

/** Where the pages are: below a server, or wherever an export was put. */
const root = new URL('../', import.meta.url)
document.documentElement.classList.add('can-search')

const input = document.querySelector('.search input')
const list = document.querySelector('.search ol')
let index
let chosen = -1

/** Read when somebody searches, not before. */
const load = () => {
  index ??= Promise.all([
    import('./minisearch.js'),
    fetch(new URL('search.json', import.meta.url)).then(answer => answer.json()),
  ]).then(([{ default: MiniSearch }, { options, sections }]) => {
    const made = new MiniSearch(options)
    made.addAll(sections)
    return made
  })
  return index
}

function choose(at) {
  const items = [...list.children]
  chosen = items.length === 0 ? -1 : (at + items.length) % items.length
  for (const [i, item] of items.entries()) item.setAttribute('aria-selected', String(i === chosen))
  items[chosen]?.scrollIntoView({ block: 'nearest' })
  if (items[chosen]) input.setAttribute('aria-activedescendant', items[chosen].id)
  else input.removeAttribute('aria-activedescendant')
}

async function search() {
  const words = input.value.trim()
  const found = words === '' ? [] : (await load()).search(words).slice(0, 12)
  if (words !== input.value.trim()) return
  list.replaceChildren(
    ...found.map(({ id, title, page }, i) => {
      const item = document.createElement('li')
      item.role = 'option'
      item.id = `found-${i}`
      const link = document.createElement('a')
      link.href = new URL(id.slice('/docs/'.length), root)
      const small = document.createElement('small')
      small.textContent = page
      link.append(title, small)
      item.append(link)
      return item
    }),
  )
  input.setAttribute('aria-expanded', String(found.length > 0))
  choose(0)
}

input.addEventListener('focus', load, { once: true })
input.addEventListener('input', search)
input.addEventListener('keydown', event => {
  if (event.key === 'ArrowDown') choose(chosen + 1)
  else if (event.key === 'ArrowUp') choose(chosen - 1)
  else if (event.key === 'Enter') list.children[chosen]?.querySelector('a').click()
  else if (event.key === 'Escape') {
    input.value = ''
    search()
  } else return
  event.preventDefault()
})
document.addEventListener('keydown', event => {
  if (event.key !== '/' || event.target.closest('input, textarea')) return
  event.preventDefault()
  input.focus()
})
