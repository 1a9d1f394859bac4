#include "email/smtp_queue.h"

void delivery_put(struct delivery_list *list, struct smtp_delivery *d)
{
    d->list = list;
    d->next = NULL;
    d->prev = list->last;
    if (list->last)
        list->last->next = d;
    else
        list->first = d;
    list->last = d;
    list->len++;
}

void delivery_put_first(struct delivery_list *list, struct smtp_delivery *d)
{
    d->list = list;
    d->prev = NULL;
    d->next = list->first;
    if (list->first)
        list->first->prev = d;
    else
        list->last = d;
    list->first = d;
    list->len++;
}

void delivery_take(struct smtp_delivery *d)
{
    struct delivery_list *list = d->list;

    *(d->prev ? &d->prev->next : &list->first) = d->next;
    *(d->next ? &d->next->prev : &list->last) = d->prev;
    d->list = NULL;
    d->prev = d->next = NULL;
    list->len--;
}

void session_put(struct session_list *list, struct smtp_session *s)
{
    s->prev = NULL;
    s->next = list->first;
    if (list->first)
        list->first->prev = s;
    else
        list->last = s;
    list->first = s;
    list->len++;
}

void session_take(struct session_list *list, struct smtp_session *s)
{
    *(s->prev ? &s->prev->next : &list->first) = s->next;
    *(s->next ? &s->next->prev : &list->last) = s->prev;
    s->prev = s->next = NULL;
    list->len--;
}
